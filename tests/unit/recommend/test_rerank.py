"""What each part of reranking does to an order: copies, windows, freshness, rules, and what is drawn by chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.catalog.filter import Filter
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.reranking import Cap, Exploration, Freshness
from ray_app.catalog.rule import BOOST, BURY, CAP, PIN, Rule
from ray_app.catalog.scenario import Channel, Pin, Scenario
from ray_app.recommend.pins import pinned_rows
from ray_app.recommend.rerank import Plan, Reranked, rerank
from tests.unit.make import DAY_MS, NOW, item, pinned, shelf

PLAIN = Scenario("s", "S", {"hot": Channel(1.0, 10)}, diversity=0.0, caps=())


def show(state: Pinned, n: int, *rules: Rule, seed: int = 0, **fields: object) -> Reranked:
    """Rows 0, 1, 2 .. as the ranker likes them best first."""
    rows = np.arange(state.n, dtype=np.int32)
    plan = Plan(n, replace(PLAIN, **fields), rules, NOW, seed)  # type: ignore[arg-type]
    return rerank(rows, np.linspace(1, 0, state.n, dtype=np.float32), plan, state)


def order(state: Pinned, n: int, *rules: Rule, **fields: object) -> list[int]:
    return show(state, n, *rules, **fields).rows.tolist()


@pytest.mark.parametrize("diversifier", ["mmr", "dpp"])
def test_scores_as_far_apart_as_float32_allows_keep_their_order(diversifier: str) -> None:
    most = np.finfo(np.float32).max  # what is no number for a scenario's expression is -most
    plan = Plan(4, replace(PLAIN, diversity=0.05, diversifier=diversifier, exploration=Exploration(0.5)), (), NOW)
    for scores in ([0.1, most, -most, 0.0], [-most, 0.5, -most, 0.4], [0.0] * 60 + [-most] * 20):
        found = rerank(np.arange(len(scores), dtype=np.int32), np.array(scores, np.float32), plan, pinned(len(scores)))
        assert found.steps["rank"].tolist() == np.argsort(-np.array(scores), kind="stable").tolist()
        assert len(set(found.rows.tolist())) == 4
        assert ((found.propensities > 0) & (found.propensities <= 1)).all()


def named(*ids: str) -> tuple[Filter, ...]:
    return (Filter("item_id", "in", ids),)


def by_author(names: str) -> Pinned:
    return shelf([item(f"i{k}", attributes={"author": a} if a != "-" else {}) for k, a in enumerate(names)]).pin()


def test_a_window_parts_items_of_one_author_and_lets_them_come_again() -> None:
    assert order(by_author("aaabbc"), 6, caps=(Cap("attributes.author", 1, 2),)) == [0, 3, 1, 4, 2, 5]


def test_items_without_an_author_stand_anywhere() -> None:
    assert order(by_author("-a-a-"), 5, caps=(Cap("attributes.author", 1, 3),)) == [0, 1, 2, 4, 3]


@given(st.text("abcd", min_size=1, max_size=40), st.integers(1, 3), st.integers(1, 6))
def test_no_window_holds_more_than_its_cap_while_another_author_is_left(names: str, most: int, window: int) -> None:
    state = by_author(names)
    slate = order(state, len(names), caps=(Cap("attributes.author", most, window),))
    shown = [names[r] for r in slate]
    for k in range(len(shown)):
        held = Counter(shown[max(0, k - window + 1) : k + 1])
        if held[shown[k]] > most:  # then every author that was left had the most of the window behind it
            before = Counter(shown[max(0, k - window + 1) : k])
            assert all(before[a] >= most for a in set(shown[k:]))


def test_two_caps_hold_at_once() -> None:
    items = [item(f"i{k}", category=c, type=t) for k, (c, t) in enumerate(zip("aabbcc", "xyxyxy", strict=True))]
    caps = (Cap("category", 1), Cap("type", 2))
    assert order(shelf(items).pin(), 3, caps=caps) == [0, 2, 5]


def copies_shop() -> Pinned:
    titles = ("Red CUP", "blue pot", "red-cup!", "green pot", "lamp")
    vectors = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.999, 0.0447], [0.6, 0, 0.8]]
    return shelf([item(f"i{k}", title=t) for k, t in enumerate(titles)], vectors).pin()


def test_of_copies_by_title_and_by_vector_the_best_alone_is_shown_while_others_are_left() -> None:
    assert order(copies_shop(), 3, duplicate_likeness=0.99) == [0, 1, 4]
    assert order(copies_shop(), 5, duplicate_likeness=0.99) == [0, 1, 4, 2, 3]
    assert order(copies_shop(), 3, duplicate_likeness=1.0) == [0, 1, 2]
    assert order(copies_shop(), 3, duplicate_likeness=0.9999) == [0, 1, 3]


def test_freshness_lifts_what_is_new_and_fades_by_its_half_life() -> None:
    state = shelf([item(f"i{k}", published_at=NOW - a * DAY_MS) for k, a in enumerate((100, 1, 100, 0))]).pin()
    assert order(state, 4, freshness=Freshness(0.0, 86400.0)) == [0, 1, 2, 3]
    assert order(state, 4, freshness=Freshness(1.5, 86400.0)) == [3, 1, 0, 2]  # 0 + 1.5, 2/3 + 0.75, 1, 1/3


def test_a_boost_and_a_burial_move_by_their_amount() -> None:
    state = pinned(5)
    assert order(state, 5, Rule("r", BOOST, named("i4"), amount=0.6)) == [0, 1, 4, 2, 3]
    assert order(state, 5, Rule("r", BURY, named("i0"), amount=0.6)) == [1, 2, 0, 3, 4]


def test_of_two_rules_on_an_item_that_of_the_higher_priority_counts() -> None:
    first, second = Rule("a", BOOST, named("i4"), amount=2), Rule("b", BURY, named("i4", "i0"), amount=2)
    assert order(pinned(5), 5, first, second) == [4, 1, 2, 3, 0]
    assert order(pinned(5), 5, second, first) == [1, 2, 3, 0, 4]


def test_a_rule_caps_the_items_that_it_is_about() -> None:
    assert order(pinned(6), 4, Rule("r", CAP, named("i0", "i1", "i2"), most=1)) == [0, 3, 4, 5]


def pins_of(rules: Sequence[Rule], scenario: Scenario = PLAIN, n: int = 5) -> dict[str, int]:
    allowed = np.ones(10, np.bool_)
    allowed[9] = False
    best = np.arange(10, dtype=np.float32)
    found = pinned_rows(scenario, rules, allowed, n, pinned(10), best)
    return {f"i{row}": position for row, position in found.items()}


def test_a_rule_pins_the_best_allowed_items_that_it_is_about() -> None:
    assert pins_of([Rule("r", PIN, named("i9", "i3", "i7"), position=1, count=2)]) == {"i7": 1, "i3": 2}
    assert pins_of([Rule("r", PIN, named("i9"), position=1)]) == {}


def test_of_two_pins_on_one_place_the_more_important_is_inserted_last_and_has_it() -> None:
    rules = [Rule("a", PIN, named("i1"), priority=5), Rule("b", PIN, named("i2"))]
    assert list(pins_of(rules, replace(PLAIN, pins=(Pin("i3", 0),)))) == ["i3", "i2", "i1"]


def test_nothing_is_drawn_where_nothing_is_explored() -> None:
    found = show(pinned(30), 10)
    assert found.propensities.tolist() == [1.0] * 10
    everything = show(pinned(30), 10, exploration=Exploration(0.0))
    assert everything.rows.tolist() == found.rows.tolist()
    assert everything.propensities.tolist() == [1.0] * 10


def test_each_place_has_its_item_as_often_as_its_propensity_says() -> None:
    """Over many seeds: by item and the places before it, how often it came against what was recorded."""
    state, how, draws = pinned(4), Exploration(0.6, 0.5), 4000
    counts: Counter[tuple[int, ...]] = Counter()
    told: dict[tuple[int, ...], float] = {}
    for seed in range(draws):
        found = show(state, 2, seed=seed, exploration=how)
        slate = found.rows.tolist()
        for k in range(2):
            counts[tuple(slate[: k + 1])] += 1
            told[tuple(slate[: k + 1])] = float(found.propensities[k])
    firsts = [key for key in told if len(key) == 1]
    assert sum(told[key] for key in firsts) == pytest.approx(1.0, abs=1e-5)
    for key, propensity in told.items():
        behind = draws if len(key) == 1 else counts[key[:1]]
        wide = 4 * np.sqrt(propensity * (1 - propensity) / behind) + 1e-9
        assert abs(counts[key] / behind - propensity) < wide, key


def test_an_estimate_weighted_by_propensities_is_that_of_another_policy() -> None:
    """Item 3 alone is worth a click; how often a uniform first place would get it is told from logged slates."""
    state, how, draws = pinned(4), Exploration(1.0, 0.7), 4000
    total = 0.0
    for seed in range(draws):
        found = show(state, 1, seed=seed, exploration=how)
        total += (0.25 / float(found.propensities[0])) * float(found.rows[0] == 3)
    assert total / draws == pytest.approx(0.25, abs=0.05)


def test_what_is_drawn_keeps_to_the_caps() -> None:
    state = shelf([item(f"i{k}", category=f"c{k // 10}") for k in range(30)]).pin()
    for seed in range(50):
        slate = order(state, 12, seed=seed, exploration=Exploration(1.0, 100.0), caps=(Cap("category", 1, 2),))
        assert all(a // 10 != b // 10 for a, b in pairwise(slate))
