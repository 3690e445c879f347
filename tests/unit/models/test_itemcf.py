"""Item CF on histories with a known right answer."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.models.itemcf import Fit, ItemCF
from ray_app.types import Interactions
from tests.unit.make import NOW, interactions, pinned, visitor

EVEN = Fit(half_life_s=1e12, source_norm=0.5)


def weights_of(model: ItemCF, row: int) -> dict[int, float]:
    """By neighbour, the best first."""
    neighbours, weights = (model.arrays()[name][row] for name in ("neighbours", "weights"))
    return {int(n): float(w) for n, w in zip(neighbours, weights, strict=True) if w > 0}


def nearest(model: ItemCF, row: int) -> list[int]:
    return list(weights_of(model, row))


def test_neighbours_are_what_the_same_visitors_took_the_most_shared_first() -> None:
    """0 and 1 share three visitors, 0 and 2 one, 3 stands alone; 4 is taken by everybody and so says little."""
    taken = [(u, 0) for u in (0, 1, 2)] + [(u, 1) for u in (0, 1, 2)] + [(2, 2), (9, 3)]
    taken += [(u, 4) for u in range(9)]
    model = ItemCF.fit(interactions([(u, r, 1) for u, r in taken], 10, 5), NOW, EVEN)
    assert nearest(model, 0) == [1, 2, 4]
    assert nearest(model, 2)[:1] == [0] or nearest(model, 2)[:1] == [1]
    assert nearest(model, 3) == []


def test_the_cosine_worked_out_by_hand() -> None:
    """Two visitors took 0 and 1, one of them 2 as well: shares 1/sqrt(2), 1/sqrt(2) and, of three, 1/sqrt(3)."""
    model = ItemCF.fit(interactions([(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 2, 0)], 2, 3), NOW, EVEN)
    of_0 = weights_of(model, 0)
    shared = 1 / 2 + 1 / 3
    assert of_0[1] == pytest.approx(1.0)
    assert of_0[2] == pytest.approx((1 / 3) / np.sqrt(shared * (1 / 3)))


def test_an_old_pair_says_less_than_a_young_one() -> None:
    young_old = [(0, 0, 1), (0, 1, 1), (1, 0, 200), (1, 2, 200), (2, 1, 1), (2, 2, 1)]
    assert nearest(ItemCF.fit(interactions(young_old, 3, 3), NOW), 0) == [1, 2]


def test_a_repeated_behaviour_counts_no_more_than_one_of_this_moment() -> None:
    once = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 2, 0)]
    often = ItemCF.fit(interactions(once + [(0, 1, 0)] * 9, 2, 3), NOW, EVEN)
    assert weights_of(often, 0) == pytest.approx(weights_of(ItemCF.fit(interactions(once, 2, 3), NOW, EVEN), 0))


def test_a_recommendation_adds_up_what_each_recent_item_says() -> None:
    """Row 2 is a neighbour of both recent items, rows 3 and 4 of one each."""
    neighbours = np.array([[2, 3], [2, 4], [0, 1], [0, 1], [0, 1]], np.int32)
    weights = np.array([[0.4, 0.5], [0.4, 0.3], [0, 0], [0, 0], [0, 0]], np.float32)
    who = visitor([0, 1], ages_s=np.zeros(2, np.float32))
    found = ItemCF(neighbours, weights).recommend(who, 10, np.ones(5, np.bool_), pinned(5))
    assert found.rows.tolist() == [2, 3, 4]
    assert found.scores == pytest.approx([0.8, 0.5, 0.3])


def test_the_reason_is_the_recent_item_that_is_the_best_neighbour() -> None:
    model = ItemCF(np.array([[1, 2], [2, 0], [0, 1]], np.int32), np.array([[2, 1], [2, 1], [1, 0]], np.float32))
    recent = np.array([2, 0], np.int32)
    rows = np.array([0, 1, 2, 77], np.int32)
    assert model.nearest(rows, recent) == [2, 2, 0, -1]


def test_a_catalogue_larger_than_one_block_has_the_same_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(3)
    some = [(int(u), int(r), int(a)) for u, r, a in drawn.integers(0, (40, 30, 60), (400, 3))]
    whole = ItemCF.fit(interactions(some, 40, 30), NOW, Fit(neighbours=5))
    monkeypatch.setattr("ray_app.models.product.MOST_PAIRS", 200)
    parts = ItemCF.fit(interactions(some, 40, 30), NOW, Fit(neighbours=5))
    assert np.array_equal(whole.arrays()["weights"], parts.arrays()["weights"])


def test_the_history_s_weights_order_what_was_taken_together() -> None:
    h = interactions([(0, 0, 1), (0, 1, 1), (0, 2, 1)], 1, 3)
    clicked = np.where(h.rows == 2, 1, 5).astype(np.float32)
    model = ItemCF.fit(Interactions(h.users, h.rows, h.at, clicked, 1, 3), NOW, Fit(source_norm=0.99))
    assert nearest(model, 0)[0] == 1
