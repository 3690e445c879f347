"""Examples: nothing after the cut leaks into them, and they are what serving would have seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME
from ray_app.config import Features
from ray_app.events.base import Logged, Topics
from ray_app.events.schema import behavior_entry
from ray_app.features import profile
from ray_app.features.boards import Boards
from ray_app.features.view import NAMES, Moment, view
from ray_app.flows.hot import Hot
from ray_app.flows.profile import ProfileFlow
from ray_app.models.itemcf import ItemCF
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.recommend.recall import recall
from ray_app.recommend.visitor import as_visitor
from ray_app.registry.watch import ITEM_CF
from ray_app.streams.flow import Batch
from ray_app.streams.state import State
from ray_app.training.history import History, from_columns, visitors_at
from ray_app.training.past import Example, examples, past
from ray_app.types import Behavior
from tests.unit.make import DAY_MS, NOW, TENANT, behavior, item, shelf

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import FixedClock

ITEMS, USERS = 60, 25
CUT, UNTIL = NOW - 7 * DAY_MS, NOW
SCENARIO = replace(HOME, budget_s=5.0)
TYPES = ("purchase", "click", "cart", "play", "hide")


def catalogue() -> Pinned:
    drawn = np.random.default_rng(0)
    vectors = drawn.normal(size=(ITEMS, 8))
    items = [
        item(f"i{k}", category=f"c{k % 5}", price=float(k % 7) or None, published_at=NOW - (ITEMS - k) * DAY_MS)
        for k in range(ITEMS)
    ]
    return shelf(items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).pin()


def some(n: int = 900, days: int = 25) -> list[Behavior]:
    """At any moment, but no two at one: of these none is newer."""
    drawn = np.random.default_rng(1)
    at = np.sort(NOW - drawn.choice(days * DAY_MS, n, replace=False))
    return [
        behavior(f"e{k}", f"i{int(drawn.integers(ITEMS - 5) ** 2 / (ITEMS - 5))}", int(t),
                 user_id=f"{drawn.integers(USERS)}", type=TYPES[drawn.integers(len(TYPES))])
        for k, t in enumerate(at)
    ]  # fmt: skip


def history(events: list[Behavior], pinned: Pinned) -> History:
    """As the query of the analytics store gives it: sorted by time."""
    ordered = sorted(events, key=lambda b: b.occurred_at)
    columns: dict[str, Any] = {
        "visitor": np.array([b.visitor for b in ordered]), "item_id": np.array([b.item_id for b in ordered]),
        "type": np.array([b.type for b in ordered]), "occurred_at": np.array([b.occurred_at for b in ordered]),
    }  # fmt: skip
    return from_columns(columns, pinned.rows, pinned.n)


def made(events: list[Behavior], pinned: Pinned) -> dict[str, Example]:
    known = history(events, pinned)
    return {known.visitors[e.user]: e for e in examples(past(known, pinned, CUT, UNTIL), SCENARIO)}


PINNED, EVENTS = catalogue(), some()


def at(when: int, item_id: str, user: str) -> Behavior:
    return behavior("planted", item_id, when, user_id=user)


LATER = {
    "one of the same user": at(UNTIL, "i7", "3"),
    "one of somebody new, whose name is the first": at(UNTIL + 1, "i7", " "),
    "one on an item that nobody knew": at(UNTIL + DAY_MS, f"i{ITEMS - 1}", "3"),
}


@pytest.mark.parametrize("planted", LATER)
def test_what_came_after_the_labels_changes_nothing_to_the_bit(planted: str) -> None:
    before, after = made(EVENTS, PINNED), made([*EVENTS, LATER[planted]], PINNED)
    assert before.keys() == after.keys()
    assert len(before) > 10
    for name, e in before.items():
        assert np.array_equal(e.features, after[name].features)
        assert np.array_equal(e.taken, after[name].taken)
        assert np.array_equal(e.candidates.rows, after[name].candidates.rows)


@pytest.mark.parametrize("when", [CUT, CUT + 1, UNTIL - 1])
def test_what_came_after_the_cut_is_a_label_and_no_feature(when: int) -> None:
    name = "u:3"
    before = made(EVENTS, PINNED)
    offered = before[name].candidates.rows[before[name].taken == 0]
    target = PINNED.ids[int(offered[0])]
    after = made([*EVENTS, at(when, target, "3")], PINNED)
    for other in before:
        assert np.array_equal(before[other].features, after[other].features)
    changed = np.flatnonzero(before[name].taken != after[name].taken)
    assert before[name].candidates.rows[changed].tolist() == [PINNED.row_of(target)]


def test_an_event_before_the_cut_does_change_features() -> None:
    """Or the tests above would pass for a view that sees nothing."""
    before, after = made(EVENTS, PINNED), made([*EVENTS, at(CUT - 1, "i7", "3")], PINNED)
    assert not np.array_equal(before["u:4"].features, after["u:4"].features)


def test_items_that_were_not_there_yet_are_not_offered() -> None:
    known = history(EVENTS, PINNED)
    state = past(known, PINNED, CUT, UNTIL)
    unborn = np.flatnonzero(PINNED.published_at >= CUT)
    taken_before = set(known.before(CUT).events.rows.tolist())
    wanted = [r for r in unborn.tolist() if r not in taken_before]
    assert len(wanted) > 0
    assert not state.known[wanted].any()
    for e in examples(state, SCENARIO):
        assert not set(e.candidates.rows.tolist()) & set(wanted)


def test_only_what_is_new_to_the_user_is_wanted() -> None:
    state = past(history(EVENTS, PINNED), PINNED, CUT, UNTIL)
    for user, rows in state.wanted.items():
        assert rows
        assert not rows & set(state.visitors[user].seen.tolist())


def test_too_many_users_are_thinned_evenly() -> None:
    state = past(history(EVENTS, PINNED), PINNED, CUT, UNTIL)
    kept = [e.user for e in examples(state, SCENARIO, most=5)]
    assert len(kept) <= 5
    assert kept == list(state.wanted)[:: -(-len(state.wanted) // 5)]


def test_an_empty_history_has_no_examples() -> None:
    state = past(from_columns({}, PINNED.rows, PINNED.n), PINNED, CUT, UNTIL)
    assert list(examples(state, SCENARIO)) == []
    assert visitors_at(from_columns({}, PINNED.rows, PINNED.n), CUT) == {}


def test_behaviours_on_items_without_a_row_are_left_out() -> None:
    known = history([*EVENTS, at(CUT - 1, "nobody's", "999")], PINNED)
    assert len(known.events) == len(EVENTS)
    assert "u:999" not in known.visitors


async def apply(redis: Redis, events: list[Behavior], now: int) -> None:
    """As the two flows write them."""
    logged = [Logged("topic", 0, k, now, "", behavior_entry(b).body) for k, b in enumerate(events)]
    topics = Topics(("topic",))
    for flow in (Hot(topics, "p", Features()), ProfileFlow(topics, "p", Features())):
        ops = await flow.flush(Batch(logged))
        await State(redis, "p", flow.name, 600).advance(("topic", 0), (0, len(logged)), now, ops)


async def test_training_sees_what_serving_sees_at_the_same_moment(redis: Redis, clock: FixedClock) -> None:
    before = [b for b in EVENTS if b.occurred_at < CUT]
    await apply(redis, before, CUT)
    boards = Boards(redis, lambda: "p", Features())
    await boards.refresh(TENANT, PINNED.rows, PINNED.n, CUT)
    moment = Moment(PINNED, boards.of(TENANT, PINNED.n), CUT)
    known = history(EVENTS, PINNED)
    state = past(known, PINNED, CUT, UNTIL)
    trained = {ITEM_CF: ItemCF.fit(known.before(CUT).events, CUT)}
    compared = 0
    for e in examples(state, SCENARIO):
        user = known.visitors[e.user].removeprefix("u:")
        asked = Ask("home", user_id=user)
        visitor = as_visitor(asked, await profile.read(redis, "p", TENANT, f"u:{user}"), PINNED, CUT)
        allowed = state.known.copy()
        allowed[visitor.seen] = False
        found = recall(visitor, SCENARIO, trained, allowed, moment, Budget(clock, 1.0))
        assert found.rows.tolist() == e.candidates.rows.tolist()
        seen = view(visitor, found.rows, found.found, found.scores, moment)
        assert {n for k, n in enumerate(NAMES) if not np.array_equal(seen[:, k], e.features[:, k])} == set()
        compared += 1
    assert compared > 10
