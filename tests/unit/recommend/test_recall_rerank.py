"""Merge against a naive reciprocal rank fusion, caps, pins, the fallback and the budget."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.reranking import Cap
from ray_app.catalog.scenario import HOME, Channel, Pin, Scenario
from ray_app.clock import FixedClock
from ray_app.features.view import view
from ray_app.models.base import Scene
from ray_app.models.diversity import DIVERSIFIERS
from ray_app.models.itemcf import ItemCF
from ray_app.recommend import fallback
from ray_app.recommend.budget import Budget
from ray_app.recommend.pins import pin, pinned_rows
from ray_app.recommend.rank import rank
from ray_app.recommend.recall import SOFTEN, Candidates, merge, recall
from ray_app.recommend.rerank import Plan, rerank
from ray_app.types import Degraded, Matrix, Rows, Scored, Scores
from tests.unit.make import NOW, item, moment, pinned, shelf, visitor

N = 30
PLAIN = Scenario("s", "S", {"hot": Channel(1.0, 10)}, diversity=0.0, caps=())


def rows(*r: int) -> Rows:
    return np.array(r, np.int32)


def falling(n: int) -> Scores:
    return np.linspace(1, 0.1, n, dtype=np.float32)


def scored(channel: str, found: list[int]) -> Scored:
    return Scored(channel, rows(*found), falling(len(found)))


lists = st.lists(st.integers(0, N - 1), unique=True, max_size=N)


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(lists, st.integers(1, 8)), max_size=4), st.integers(1, 40))
def test_the_merge_is_a_weighted_reciprocal_rank_fusion(given_: dict[str, tuple[list[int], int]], most: int) -> None:
    channels = {name: Channel(weight / 4, N) for name, (_, weight) in given_.items()}
    merged = merge({name: scored(name, found) for name, (found, _) in given_.items()}, channels, most, N)
    naive: dict[int, float] = {}
    for found, weight in given_.values():
        for place, row in enumerate(found):
            naive[row] = naive.get(row, 0.0) + (weight / 4) / (SOFTEN + place)
    assert len(merged.rows) == min(most, len(naive))
    assert merged.scores == pytest.approx([naive[r] for r in merged.rows.tolist()], rel=1e-5)
    assert (np.diff(merged.scores) <= 0).all()
    left = [naive[r] for r in naive if r not in set(merged.rows.tolist())]
    assert not left or max(left) <= merged.scores[-1] * (1 + 1e-5)


def test_equal_scores_are_ordered_by_row() -> None:
    found = {"a": scored("a", [5, 2]), "b": scored("b", [2, 5])}
    merged = merge(found, dict.fromkeys("ab", Channel(1, 9)), 9, N)
    assert merged.rows.tolist() == [2, 5]


def test_a_channel_brings_no_more_than_its_quota() -> None:
    scenario = replace(PLAIN, channels={"hot": Channel(1.0, 3), "new": Channel(1.0, 2)})
    state = moment(pinned(20), range(20))
    found = recall(visitor(), scenario, {}, np.ones(20, np.bool_), state, Budget(FixedClock(), 1.0))
    assert {name: len(s.rows) for name, s in found.found.items()} == {"hot": 3, "new": 2}


def test_a_channel_that_fails_is_named_and_the_others_answer() -> None:
    broken = ItemCF(np.full((20, 2), 99, np.int32), np.ones((20, 2), np.float32))  # neighbours that are no rows
    scenario = replace(PLAIN, channels={"item_cf": Channel(1, 9), "hot": Channel(1, 9), "unknown": Channel(1, 9)})
    budget = Budget(FixedClock(), 1.0)
    state = moment(pinned(20), range(20))
    found = recall(visitor([1]), scenario, {"item_cf": broken}, np.ones(20, np.bool_), state, budget)
    assert list(found.found) == ["hot"]
    assert [(d.stage, d.channel) for d in budget.degraded] == [("recall", "item_cf")]


def test_the_channels_that_the_time_was_not_enough_for_are_left_out() -> None:
    clock = FixedClock()
    budget = Budget(clock, 0.1)
    clock.pass_s(0.1)
    state = moment(pinned(20), range(20))
    assert not len(recall(visitor(), HOME, {}, np.ones(20, np.bool_), state, budget).rows)
    assert budget.degraded == [Degraded("recall", "the time budget is spent", "item_cf")]


def test_a_budget_counts_down_and_notes_where_the_time_went() -> None:
    clock = FixedClock(5_000)
    budget = Budget(clock, 1.0)
    with budget.stage("recall"):
        clock.pass_s(0.25)
    with suppress(KeyError), budget.stage("rank"):
        clock.pass_s(0.5)
        raise KeyError
    assert budget.left_s() == pytest.approx(0.25)
    assert budget.stages == {"recall": 250.0, "rank": 500.0}
    clock.pass_s(9)
    assert budget.left_s() == 0.0
    assert not budget.left("hot")


def candidates(*r: int) -> Candidates:
    return Candidates(rows(*r), falling(len(r)), {})


def test_before_the_first_training_popularity_lifts_the_merge() -> None:
    for hot, order in (([0, 0, 999], [0, 2, 1]), ([0, 0, 0], [0, 1, 2])):
        now, some = moment(pinned(3), hot), candidates(0, 1, 2)
        scene = Scene(view(visitor(), some.rows, {}, some.scores, now), some.rows, visitor())
        judged = rank(None, scene, "convert", some.scores, Budget(FixedClock(), 1.0))
        assert np.argsort(-judged.scores).tolist() == order
        assert judged.tasks == {}


class Told:
    """A ranker that predicts what it was told."""

    version, kind = "v", "told"

    def __init__(self, *predicted: tuple[float, float, float]) -> None:
        self.predicted = np.array(predicted, np.float32)

    def predict(self, scene: Scene) -> Matrix:
        return self.predicted

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


def test_the_score_is_the_scenario_s_expression_over_what_is_predicted() -> None:
    some, budget = candidates(0, 1, 2), Budget(FixedClock(), 1.0)
    scene = Scene(np.zeros((3, 1), np.float32), some.rows, visitor())
    told = Told((0.3, 0, 0), (0.2, 0.9, 0), (0.1, 0, 60))
    for score, order in (("click", [0, 1, 2]), ("click * (1 + 2 * convert)", [1, 0, 2]), ("click + watch", [2, 0, 1])):
        judged = rank(told, scene, score, some.scores, budget)
        assert np.argsort(-judged.scores).tolist() == order
        assert {task: values[2] for task, values in judged.tasks.items()} == {
            "click": np.float32(0.1), "convert": 0, "watch": 60,
        }  # fmt: skip


def test_without_time_the_merge_is_the_order_and_the_answer_says_so() -> None:
    clock, some = FixedClock(), candidates(0, 1)
    budget = Budget(clock, 0.1)
    clock.pass_s(1)
    scene = Scene(np.zeros((2, 1), np.float32), some.rows, visitor())
    assert rank(Told(), scene, "click", some.scores, budget).scores.tolist() == some.scores.tolist()
    assert [d.stage for d in budget.degraded] == ["rank"]


def reranked(some: Rows, scores: Scores, n: int, scenario: Scenario, state: Pinned) -> list[int]:
    return rerank(some, scores, Plan(n, scenario), state).rows.tolist()


def by_share(share: float) -> Scenario:
    return replace(PLAIN, caps=(Cap("category", share),))


def by_category(*names: str) -> Pinned:
    return shelf([item(f"i{k}", category=c) for k, c in enumerate(names)]).pin()


def test_a_category_fills_no_more_than_its_share_while_another_is_left() -> None:
    state = by_category(*"a" * 50, *"b" * 10)
    slate = reranked(np.arange(60, dtype=np.int32), falling(60), 10, by_share(0.6), state)
    assert slate == [0, 1, 2, 3, 4, 5, 50, 51, 52, 53]


def test_a_cap_reaches_candidates_beyond_the_pool_that_diversity_compares() -> None:
    state = by_category(*"a" * 150, *"b" * 10)
    slate = reranked(np.arange(160, dtype=np.int32), falling(160), 10, by_share(0.5), state)
    assert slate == [0, 1, 2, 3, 4, 150, 151, 152, 153, 154]


def test_what_a_cap_left_out_comes_last_rather_than_nothing() -> None:
    state = by_category("a", "a", "a", "b")
    slate = reranked(np.arange(4, dtype=np.int32), falling(4), 4, by_share(0.5), state)
    assert slate == [0, 1, 3, 2]


def test_items_without_a_category_are_not_capped() -> None:
    state = by_category(*[""] * 6)
    slate = reranked(np.arange(6, dtype=np.int32), falling(6), 4, by_share(0.1), state)
    assert slate == [0, 1, 2, 3]


@given(
    st.integers(0, 80), st.integers(1, 30), st.floats(0, 1), st.floats(0.01, 0.99), st.sampled_from(list(DIVERSIFIERS)),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_slate_has_no_repeats_and_is_full_while_there_are_candidates(
    m: int, n: int, diversity: float, share: float, how: str, seed: int
) -> None:
    drawn = np.random.default_rng(seed)
    vectors = drawn.normal(size=(80, 3))
    state = shelf(
        [item(f"i{k}", category=f"c{k % 3}") for k in range(80)],
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    ).pin()
    some = drawn.permutation(80)[:m].astype(np.int32)
    scenario = replace(PLAIN, diversity=diversity, diversifier=how, caps=(Cap("category", share),))
    slate = reranked(some, drawn.normal(size=m).astype(np.float32), n, scenario, state)
    assert len(slate) == len(set(slate)) == min(n, m)
    assert set(slate) <= set(some.tolist())


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ((), [5, 6, 7, 8]),
        ((Pin("i9", 0),), [9, 5, 6, 7]),
        ((Pin("i9", 2), Pin("i3", 0)), [3, 5, 9, 6]),
        ((Pin("i6", 0),), [6, 5, 7, 8]),
        ((Pin("i5", 3),), [6, 7, 8, 5]),
        ((Pin("i9", 4),), [5, 6, 7, 8]),
        ((Pin("nobody", 0), Pin("i1", 1)), [5, 6, 7, 8]),
    ],
)
def test_pins_stand_where_the_operator_put_them(pins: tuple[Pin, ...], expected: list[int]) -> None:
    allowed = np.ones(10, np.bool_)
    allowed[1] = False
    found = pinned_rows(replace(PLAIN, pins=pins), (), allowed, 4, pinned(10), falling(10))
    assert pin(rows(5, 6, 7, 8), found, 4).tolist() == expected


def test_the_fallback_is_hot_then_new_then_any() -> None:
    items = [item(f"i{k}", published_at=NOW - 10 + k) for k in range(4)]
    state = moment(shelf(items).pin(), [0, 3, 0, 0])
    assert fallback.fill(rows(), 9, np.ones(4, np.bool_), state).tolist() == [1, 3, 2, 0]
    assert fallback.fill(rows(3), 3, np.ones(4, np.bool_), state).tolist() == [1, 2]
    assert fallback.fill(rows(3, 1), 2, np.ones(4, np.bool_), state).tolist() == []


@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(1, 60))
def test_the_fallback_is_never_short_while_something_is_eligible(allowed: list[bool], n: int) -> None:
    state = moment(pinned(len(allowed)))
    found = fallback.fill(rows(), n, np.array(allowed), state).tolist()
    assert len(found) == len(set(found)) == min(n, sum(allowed))
    assert all(allowed[r] for r in found)
