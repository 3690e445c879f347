"""The shelf: what the change feed changes, and what a pinned state keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.catalog.changes import Change
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelf import Shelf
from tests.unit.make import change, gone, item, shelf


def whole(p: Pinned) -> dict[str, Any]:
    """Everything that a request may read of a pinned state, as values."""
    return {
        "ids": list(p.ids[: p.n]), "titles": list(p.titles[: p.n]), "bodies": list(p.bodies[: p.n]),
        "rows": {i: p.row_of(i) for i in ("a", "b", "c", "d", "i7", "i300")}, "available": p.available.tolist(),
        "category": [p.categories[c] if p.categories else "" for c in p.category],
        "type": [p.types[c] if p.types else "" for c in p.type],
        "price": np.nan_to_num(p.price, nan=-1).tolist(), "published_at": p.published_at.tolist(),
        "vectors": p.vectors.whole().tolist(), "space": p.space, "n": p.n,
    }  # fmt: skip


def vector(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_an_applied_item_is_on_every_array() -> None:
    s = shelf([item("a", category="tea", price=2.0, published_at=5)])
    p = s.pin()
    assert (p.n, p.ids[0], p.row_of("a"), p.titles[0]) == (1, "a", 0, "title of a")
    assert (p.categories[p.category[0]], p.types[p.type[0]], p.price[0], p.published_at[0]) == ("tea", "item", 2.0, 5)
    assert p.available.tolist() == [True]
    assert p.bodies[0] is not None
    assert p.bodies[0]["id"] == "a"


def test_an_older_version_never_overwrites_a_newer_one_and_an_equal_one_does() -> None:
    s = shelf([item("a", 5, title="new")])
    s.apply([change(0, item("a", 4, title="old"))])
    assert s.pin().titles[0] == "new"
    s.apply([change(0, item("a", 5, title="again"))])
    assert s.pin().titles[0] == "again"


def test_an_older_write_does_not_bring_back_what_was_deleted() -> None:
    s = shelf([item("a", 5), item("b", 1)])
    s.apply([gone(0, "a", 6)])
    s.apply([change(0, item("a", 5, title="late"))])
    assert s.pin().available.tolist() == [False, True]
    s.apply([change(0, item("a", 7))])
    assert s.pin().available.tolist() == [True, True]


def test_the_same_state_is_pinned_once() -> None:
    s = shelf([item("a")])
    first = s.pin()
    assert s.pin() is first
    s.apply([])
    assert s.pin() is first
    s.apply([change(0, item("a", 2))])
    assert s.pin() is not first


LATER = {
    "an update": [change(0, item("a", 2, title="other", category="new", type="x", price=9.0, published_at=9))],
    "a delete": [gone(0, "a", 2)],
    "a status": [change(1, item("b", 2, status="unavailable"))],
    "growth": [change(300, item("i300", category="new"))],
    "a row that was given before but filled only now": [change(2, item("c"))],
    "a row behind, still free": [change(7, item("i7"))],
    "a vector": [change(0, item("a", 2), vector(0, 1), "space")],
}


@pytest.mark.parametrize("later", LATER)
def test_a_pinned_state_never_changes(later: str) -> None:
    s = Shelf(3)
    s.apply([change(0, item("a", price=1.0, tags=("t",))), change(1, item("b"))])
    s.replace_vectors("space", np.array([0, 1], np.int32), np.eye(2, dtype=np.float32))
    p = s.pin()
    before = whole(p)
    s.apply(LATER[later])
    assert whole(p) == before
    assert whole(s.pin()) != before


def test_another_space_is_not_seen_by_a_pinned_state() -> None:
    s = shelf([item("a"), item("b")], np.eye(2), "first")
    p = s.pin()
    s.replace_vectors("second", np.array([1], np.int32), np.array([[1, 2, 3]], np.float32))
    assert (p.space, p.vectors.whole().tolist()) == ("first", [[1, 0], [0, 1]])
    assert (s.pin().space, s.pin().vectors.whole().tolist()) == ("second", [[0, 0, 0], [1, 2, 3]])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()), max_size=60), st.integers(1, 7))
def test_the_order_of_changes_does_not_matter_only_the_version_does(
    moves: list[tuple[int, int, bool]], size: int
) -> None:
    """Batches of any size, some of them deletes, in the order given and sorted by version."""
    one_each = {(row, version): deleted for row, version, deleted in moves}
    changes = [
        gone(row, f"i{row}", version) if deleted else change(row, item(f"i{row}", version, title=f"v{version}"))
        for (row, version), deleted in one_each.items()
    ]
    any_order, by_version = Shelf(), Shelf()
    for k in range(0, len(changes), size):
        any_order.apply(changes[k : k + size])
    for c in sorted(changes, key=lambda c: c.version):
        by_version.apply([c])
    a, b = any_order.pin(), by_version.pin()
    assert a.available.tolist() == b.available.tolist()
    live = np.flatnonzero(b.available)
    assert [(a.ids[r], a.titles[r]) for r in live] == [(b.ids[r], b.titles[r]) for r in live]


def test_growth_leaves_gaps_that_nobody_is_offered() -> None:
    s = shelf([item("a")])
    s.apply([change(1_000, item("far"))])
    p = s.pin()
    assert p.n == len(p.available) == len(p.vectors) == 1_001
    assert np.flatnonzero(p.eligible([])).tolist() == [0, 1_000]


def test_a_vector_comes_with_the_change_or_is_made_when_its_space_is_another() -> None:
    s = shelf([item("a"), item("b")], np.eye(2), "space")
    mine, other, none = (
        change(0, item("a", 2), vector(0.6, 0.8), "space"), change(1, item("b", 2), vector(1, 1, 1), "old"),
        change(2, item("c")),
    )  # fmt: skip
    assert s.lacks([mine, other, none, gone(3, "d", 1)]) == [other, none]
    s.apply([mine, other, none], {"b": vector(0.8, 0.6), "c": vector(1, 0)})
    assert np.allclose(s.pin().vectors.whole(), [[0.6, 0.8], [0.8, 0.6], [1, 0]])


def test_available_items_without_a_vector_are_named() -> None:
    items = [item("a"), item("b"), item("c", status="unavailable")]
    s = shelf(items, [[0, 0], [0, 1], [0, 0]])
    assert [(row, body["id"]) for row, body in s.without_vector()] == [(0, "a")]
    assert shelf(items).without_vector() == []


def test_a_change_of_one_item_comes_through_the_feed_as_it_was() -> None:
    from ray_app.catalog import changes

    for one in (change(3, item("ü", 7, tags=("x",)), vector(0.25, -1), "s"), change(1, item("a")), gone(2, "b", 4)):
        sent = changes.encode(one)
        got: Change = changes.decode({k.encode(): v for k, v in sent.items()})
        assert (got.item_id, got.row, got.version, got.space) == (one.item_id, one.row, one.version, one.space)
        assert (got.item is None) == (one.item is None)
        assert got.item is None or {**got.item, "tags": tuple(got.item["tags"]), "media": ()} == one.item
        assert (got.vector is None) == (one.vector is None)
        assert got.vector is None or np.array_equal(got.vector, one.vector)  # type: ignore[arg-type]
