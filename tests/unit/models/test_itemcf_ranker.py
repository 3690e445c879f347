"""Item CF on histories with a known right answer, and the ranker: numpy as it serves is torch as it was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_app.errors import BrokenArtifact
from ray_app.features.view import NAMES
from ray_app.models.itemcf import Fit, ItemCF
from ray_app.models.ranker import DenseRanker
from ray_app.recommend.recall import Candidates
from ray_app.training.dataset import Example
from ray_app.training.fit import Network, fit
from ray_app.types import Interactions, Matrix, Scores
from tests.unit.make import NOW, interactions, pinned, visitor

EVEN = Fit(half_life_s=1e12, source_norm=0.5)


def nearest(model: ItemCF, row: int) -> list[int]:
    return model.neighbours_of(row)[0].tolist()


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
    of_0 = dict(zip(*(a.tolist() for a in model.neighbours_of(0)), strict=True))
    shared = 1 / 2 + 1 / 3
    assert of_0[1] == pytest.approx(1.0)
    assert of_0[2] == pytest.approx((1 / 3) / np.sqrt(shared * (1 / 3)))


def test_an_old_pair_says_less_than_a_young_one() -> None:
    young_old = [(0, 0, 1), (0, 1, 1), (1, 0, 200), (1, 2, 200), (2, 1, 1), (2, 2, 1)]
    assert nearest(ItemCF.fit(interactions(young_old, 3, 3), NOW), 0) == [1, 2]


def test_a_repeated_behaviour_counts_no_more_than_one_of_this_moment() -> None:
    once = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 2, 0)]
    often = ItemCF.fit(interactions(once + [(0, 1, 0)] * 9, 2, 3), NOW, EVEN)
    assert np.allclose(often.neighbours_of(0)[1], ItemCF.fit(interactions(once, 2, 3), NOW, EVEN).neighbours_of(0)[1])


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
    monkeypatch.setattr("ray_app.models.neighbours.MOST_CELLS", 30 * 7)
    parts = ItemCF.fit(interactions(some, 40, 30), NOW, Fit(neighbours=5))
    assert np.array_equal(whole.arrays()["weights"], parts.arrays()["weights"])


def test_the_history_s_weights_order_what_was_taken_together() -> None:
    h = interactions([(0, 0, 1), (0, 1, 1), (0, 2, 1)], 1, 3)
    clicked = np.where(h.rows == 2, 1, 5).astype(np.float32)
    model = ItemCF.fit(Interactions(h.users, h.rows, h.at, clicked, 1, 3), NOW, Fit(source_norm=0.99))
    assert nearest(model, 0)[0] == 1


def examples(n: int, seed: int = 1) -> list[Example]:
    """What is taken has more of features 0 and 3 and less of 5; one feature never varies."""
    drawn, made = np.random.default_rng(seed), []
    for user in range(n):
        m = int(drawn.integers(2, 30))
        x = drawn.normal(size=(m, len(NAMES))).astype(np.float32)
        x[:, 7] = 1.0
        taken = np.zeros(m, np.float32)
        taken[np.argmax(2 * x[:, 0] + x[:, 3] - x[:, 5])] = 1.0
        none = np.zeros(0, np.float32)
        made.append(Example(user, x, taken, Candidates(np.zeros(0, np.int32), none, {})))
    return made


def by_torch(ranker: DenseRanker, features: Matrix) -> Scores:
    """The network that the arrays describe, in torch."""
    a = {k: torch.from_numpy(np.array(v)) for k, v in ranker.arrays().items()}
    x = (torch.from_numpy(features) - a["centre"]) / a["spread"]
    layers = (len(a) - 2) // 2
    for k in range(layers):
        x = torch.nn.functional.linear(x, a[f"weight{k}"].T, a[f"bias{k}"])
        x = torch.relu(x) if k < layers - 1 else x
    return np.asarray(x[:, 0])


@pytest.mark.parametrize("hidden", [(), (16,), (8, 4)])
def test_the_ranker_in_numpy_is_the_one_in_torch(hidden: tuple[int, ...]) -> None:
    ranker = fit(examples(60), "v", Network(hidden, epochs=2))
    features = np.concatenate([e.features for e in examples(20, seed=2)])
    assert np.abs(ranker.score(features) - by_torch(ranker, features)).max() < 1e-5


def test_a_fit_finds_what_decides_and_is_the_same_each_time() -> None:
    how = Network((), epochs=30, learning_rate=3e-2)
    first, second = fit(examples(1200), "v", how), fit(examples(1200), "v", how)
    for e in examples(5, seed=9):
        assert np.array_equal(first.score(e.features), second.score(e.features))
    right = [np.argmax(first.score(e.features)) == np.argmax(e.taken) for e in examples(100, seed=9)]
    assert np.mean(right) > 0.9


def test_what_never_varied_says_nothing_also_where_it_does() -> None:
    ranker = fit(examples(60), "v", Network(epochs=1))
    features = examples(1, seed=5)[0].features
    other = features.copy()
    other[:, 7] = 1e6
    assert np.array_equal(ranker.score(features), ranker.score(other))


def test_there_is_nothing_to_learn_from_when_nothing_was_taken() -> None:
    e = examples(1)[0]
    with pytest.raises(ValueError, match="none of 1 visitors"):
        fit([Example(0, e.features, np.zeros_like(e.taken), e.candidates)], "v")


def test_a_ranker_comes_back_from_its_arrays_and_refuses_other_features() -> None:
    ranker = fit(examples(30), "v", Network(epochs=1))
    again = DenseRanker.load("v", NAMES, NAMES, ranker.arrays())
    features = examples(1, seed=5)[0].features
    assert np.array_equal(again.score(features), ranker.score(features))
    with pytest.raises(BrokenArtifact, match="Train again"):
        DenseRanker.load("v", NAMES[:-1], NAMES, ranker.arrays())
    with pytest.raises(BrokenArtifact, match="Train again"):
        DenseRanker.load("v", (*NAMES[1:], NAMES[0]), NAMES, ranker.arrays())


def test_scores_of_no_candidates_are_none() -> None:
    ranker = fit(examples(30), "v", Network(epochs=1))
    assert ranker.score(np.zeros((0, len(NAMES)), np.float32)).shape == (0,)
