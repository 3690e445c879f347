"""One suite for every way in which a scenario's configuration changes the order of its candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_app.catalog.changes import Change
from ray_app.catalog.filter import Filter
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.reranking import Cap, Exploration, Freshness
from ray_app.catalog.rule import BOOST, BURY, CAP, Rule
from ray_app.catalog.scenario import Channel, Scenario
from ray_app.catalog.shelf import Shelf
from ray_app.events.schema import item_to_dict
from ray_app.models.diversity import DIVERSIFIERS
from ray_app.recommend.rerank import Plan, Reranked, rerank
from ray_app.types import Item, Rows, Scores

NOW, DAY_MS = 1_800_000_000_000, 86_400_000
PLAIN = Scenario("s", "S", {"hot": Channel(1.0, 10)}, diversity=0.0, caps=())
TEA = (Filter("category", "eq", "c0"),)
WAYS: dict[str, Plan] = {
    "plain": Plan(10, PLAIN),
    **{how: Plan(10, replace(PLAIN, diversity=0.4, diversifier=how)) for how in DIVERSIFIERS},
    **{f"{how} alone": Plan(10, replace(PLAIN, diversity=1.0, diversifier=how)) for how in DIVERSIFIERS},
    "a cap per category": Plan(10, replace(PLAIN, caps=(Cap("category", 0.4),))),
    "a cap per author in a window": Plan(10, replace(PLAIN, caps=(Cap("attributes.author", 1, 3),))),
    "no copies": Plan(10, replace(PLAIN, duplicate_likeness=0.9)),
    "freshness": Plan(10, replace(PLAIN, freshness=Freshness(0.5, 86400.0))),
    "exploration": Plan(10, replace(PLAIN, exploration=Exploration(0.5, 0.5))),
    "boost": Plan(10, PLAIN, (Rule("r", BOOST, TEA),)),
    "bury": Plan(10, PLAIN, (Rule("r", BURY, TEA),)),
    "a rule's cap": Plan(10, PLAIN, (Rule("r", CAP, TEA, most=1),)),
    "all of it": Plan(
        10,
        replace(
            PLAIN, diversity=0.3, diversifier="dpp", caps=(Cap("category", 0.5), Cap("attributes.author", 2, 5)),
            duplicate_likeness=0.95, freshness=Freshness(0.1, 86400.0), exploration=Exploration(0.3),
        ),
        (Rule("r", BOOST, TEA, amount=0.2), Rule("q", CAP, TEA, most=3)),
    ),
}  # fmt: skip


@pytest.fixture(params=WAYS)
def plan(request: pytest.FixtureRequest) -> Plan:
    return replace(WAYS[request.param], now=NOW, seed=5)


def catalogue(n: int, vectors: bool = True) -> Pinned:
    """Three categories, five authors, each title three times, one item a day."""
    made = Shelf()
    for k in range(n):
        title = f"title {k // 3}"
        item = Item(
            "t", f"i{k}", "item", title, 1, category=f"c{k % 3}", published_at=NOW - k * DAY_MS,
            attributes={"author": f"a{k % 5}"},
        )  # fmt: skip
        made.apply([Change(item.id, k, 1, {**item_to_dict(item), "row": k})])
    if vectors:
        drawn = np.random.default_rng(1).normal(size=(n, 6)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        made.replace_vectors("s", np.arange(n, dtype=np.int32), drawn)
    return made.pin()


def candidates(m: int, n: int, seed: int = 3) -> tuple[Rows, Scores]:
    drawn = np.random.default_rng(seed)
    return drawn.permutation(n)[:m].astype(np.int32), drawn.normal(size=m).astype(np.float32)


def same(a: Reranked, b: Reranked) -> bool:
    return np.array_equal(a.rows, b.rows) and np.array_equal(a.propensities, b.propensities)


@pytest.mark.parametrize("m", [0, 1, 2, 9, 10, 11, 80])
@pytest.mark.parametrize("vectors", [True, False])
def test_a_slate_is_full_while_there_are_candidates_and_repeats_none(plan: Plan, m: int, vectors: bool) -> None:
    rows, scores = candidates(m, 80)
    found = rerank(rows, scores, plan, catalogue(80, vectors))
    assert (found.rows.dtype, found.propensities.dtype) == (np.int32, np.float32)
    assert len(found.rows) == len(found.propensities) == len(set(found.rows.tolist())) == min(m, plan.n)
    assert set(found.rows.tolist()) <= set(rows.tolist())
    assert ((found.propensities > 0) & (found.propensities <= 1)).all()


def test_the_same_question_has_the_same_answer_in_whatever_order_candidates_come(plan: Plan) -> None:
    state, (rows, scores) = catalogue(80), candidates(60, 80)
    first = rerank(rows, scores, plan, state)
    assert same(first, rerank(rows, scores, plan, state))
    mixed = np.random.default_rng(8).permutation(60)
    assert same(first, rerank(rows[mixed], scores[mixed], plan, catalogue(80)))


def test_scores_mean_the_same_on_any_scale(plan: Plan) -> None:
    state, (rows, scores) = catalogue(80), candidates(60, 80)
    found = rerank(rows, scores, plan, state)
    assert found.rows.tolist() == rerank(rows, 8 * scores - 4, plan, state).rows.tolist()


def test_the_question_is_left_as_it_was(plan: Plan) -> None:
    rows, scores = candidates(60, 80)
    kept = rows.copy(), scores.copy()
    rerank(rows, scores, plan, catalogue(80))
    assert np.array_equal(rows, kept[0])
    assert np.array_equal(scores, kept[1])


def test_each_step_names_every_candidate_and_the_last_is_the_slate(plan: Plan) -> None:
    rows, scores = candidates(60, 80)
    found = rerank(rows, scores, plan, catalogue(80))
    *before, last = found.steps.values()
    assert all(sorted(step.tolist()) == sorted(rows.tolist()) for step in before)
    assert np.array_equal(last, found.rows)


def test_equal_scores_and_a_single_candidate_are_no_error(plan: Plan) -> None:
    state = catalogue(80)
    rows = np.arange(30, dtype=np.int32)
    assert len(rerank(rows, np.ones(30, np.float32), plan, state).rows) == 10
    assert rerank(rows[:1], np.zeros(1, np.float32), plan, state).rows.tolist() == [0]


def test_every_reranker_but_the_plain_one_changes_an_order() -> None:
    state, (rows, scores) = catalogue(80), candidates(70, 80)
    orders = {name: tuple(rerank(rows, scores, replace(p, now=NOW, seed=5), state).rows) for name, p in WAYS.items()}
    assert [name for name, order in orders.items() if order == orders["plain"]] == ["plain"]
