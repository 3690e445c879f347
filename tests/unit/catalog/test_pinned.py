"""Filters on a pinned catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ray_app.catalog.changes import Change
from ray_app.catalog.filter import Filter
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelf import Shelf
from ray_app.events.schema import item_to_dict
from tests.unit.make import NOW, item, shelf

ITEMS = (
    item("a", category="tea", type="good", price=1.5, tags=("red", "new"), published_at=10,
         attributes={"size": 3, "organic": True, "maker": "x"}),
    item("b", category="tea", type="book", price=2.5, tags=("blue",), published_at=20, attributes={"size": 5.0}),
    item("c", category="", type="good", price=None, published_at=30, attributes={"size": "5", "maker": ["x"]}),
    item("d", category="cup", type="good", price=0.1, tags=("red",), published_at=NOW, status="unavailable"),
    item("e", category="cup", type="good", price=0.1, published_at=NOW, attributes={"organic": False}),
)  # fmt: skip


@pytest.fixture
def pinned() -> Pinned:
    return shelf(ITEMS).pin()


def ids(pinned: Pinned, *filters: Filter, hidden: tuple[str, ...] = ()) -> str:
    return "".join(pinned.ids[r] for r in np.flatnonzero(pinned.eligible(filters, hidden)))


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("item_id", "eq", "b", "b"),
        ("item_id", "in", ("e", "a", "nobody"), "ae"),
        ("category", "eq", "tea", "ab"),
        ("category", "eq", "", "c"),
        ("category", "in", ("cup", "tea"), "abe"),
        ("category", "eq", "unknown", ""),
        ("type", "eq", "book", "b"),
        ("type", "in", ("good", "none"), "ace"),
        ("tags", "eq", "red", "a"),
        ("tags", "in", ("blue", "new"), "ab"),
        ("price", "eq", 0.1, "e"),
        ("price", "in", (1.5, 0.1), "ae"),
        ("price", "gte", 1.5, "ab"),
        ("price", "lte", 1.5, "ae"),
        ("price", "gte", 0.0, "abe"),
        ("published_at", "gte", 20.0, "bce"),
        ("published_at", "lte", 20.0, "ab"),
        ("published_at", "eq", float(NOW), "e"),
        ("published_at", "eq", 1e300, ""),
        ("published_at", "eq", 20.5, ""),
        ("attributes.size", "gte", 3.0, "ab"),
        ("attributes.size", "lte", 3.0, "a"),
        ("attributes.size", "eq", 5.0, "b"),
        ("attributes.size", "eq", "5", "c"),
        ("attributes.organic", "eq", True, "a"),
        ("attributes.organic", "gte", 0.0, ""),
        ("attributes.maker", "in", ("x", "y"), "a"),
        ("attributes.absent", "eq", "x", ""),
    ],
)
def test_a_filter_lets_through_what_fits_and_is_available(
    pinned: Pinned, field: str, op: str, value: Any, expected: str
) -> None:
    assert ids(pinned, Filter(field, op, value)) == expected
    assert ids(pinned, Filter(field, op, value)) == expected  # the second answer comes from the kept mask


def test_all_filters_must_hold_and_hidden_items_never_do(pinned: Pinned) -> None:
    both = Filter("category", "eq", "tea"), Filter("price", "lte", 2.0)
    assert ids(pinned, *both) == "a"
    assert ids(pinned) == "abce"
    assert ids(pinned, hidden=("a", "nobody", "e")) == "bc"
    assert ids(pinned) == "abce"


def test_a_mask_may_be_changed_by_its_caller(pinned: Pinned) -> None:
    pinned.eligible([Filter("category", "eq", "tea")])[:] = True
    pinned.eligible([])[:] = False
    assert ids(pinned, Filter("category", "eq", "tea")) == "ab"


def test_more_filters_than_are_kept_still_answer_right(pinned: Pinned) -> None:
    for _ in range(2):
        for cents in range(300):
            fits = [i.id for i in ITEMS if i.status == "available" and i.price is not None and i.price * 100 >= cents]
            assert ids(pinned, Filter("price", "gte", cents / 100)) == "".join(fits)


def test_a_filter_that_fits_ten_of_a_hundred_thousand_items_finds_those_ten() -> None:
    rare = set(range(7, 100_000, 10_000))
    bodies = {c: item_to_dict(item("any", category=c)) for c in ("rare", "usual")}
    whole = Shelf()
    whole.apply([Change(f"i{k}", k, 1, bodies["rare" if k in rare else "usual"]) for k in range(100_000)])
    pinned = whole.pin()
    assert set(np.flatnonzero(pinned.eligible([Filter("category", "eq", "rare")])).tolist()) == rare


def test_rows_of_ids_keep_their_order_and_leave_out_the_unknown(pinned: Pinned) -> None:
    assert pinned.rows_of(["e", "nobody", "a"]).tolist() == [4, 0]
    assert pinned.rows_of([]).dtype == np.int32
    assert (pinned.row_of("c"), pinned.row_of("nobody")) == (2, None)
