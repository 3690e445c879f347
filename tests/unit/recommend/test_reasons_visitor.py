"""Why an item is there, in words; and who asks, as rows of the pinned shelf."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Channel
from ray_app.clock import SystemClock
from ray_app.features.profile import Profile, Recent
from ray_app.models.itemcf import ItemCF
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.recommend.reasons import Reasons, channels_of
from ray_app.recommend.recall import Candidates
from ray_app.recommend.visitor import as_visitor, read_profile
from ray_app.stores.redis import connect
from ray_app.types import Rows, Scored
from tests.unit.make import NOW, item, shelf, visitor

VECTORS = [[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]]
CF = ItemCF(np.array([[1], [2], [1], [0]], np.int32), np.array([[1], [1], [1], [0]], np.float32))


def rows(*r: int) -> Rows:
    return np.array(r, np.int32)


@pytest.fixture
def pinned() -> Pinned:
    return shelf([item("a", category="tea"), item("b"), item("c", category="cup"), item("d")], VECTORS).pin()


@pytest.mark.parametrize(
    ("row", "channel", "code", "text"),
    [
        (1, "item_cf", "TAKEN_TOGETHER", "Often taken together with title of c"),
        (3, "item_cf", "TAKEN_TOGETHER", "Often taken together with title of c"),  # not among them: the nearest text
        (3, "content", "SIMILAR", "Similar to title of c"),
        (1, "content", "SIMILAR", "Similar to title of a"),
        (2, "hot_category", "POPULAR_IN_CATEGORY", "Popular in cup"),
        (3, "hot_category", "POPULAR_IN_CATEGORY", "Popular in what you like"),
        (2, "buy_again", "BUY_AGAIN", "You have bought it 3 times"),
        (0, "buy_again", "BUY_AGAIN", "You have bought it once"),
        (0, "hot", "POPULAR", "Popular this week"),
        (0, "new", "NEW", "New"),
        (0, "pinned", "PINNED", "Chosen by the shop"),
        (0, "fallback", "FALLBACK", "Popular or new"),
        (0, "seen", "SEEN", "You know it already; nothing unseen is left"),
    ],
)
def test_a_reason_names_what_led_to_the_item(pinned: Pinned, row: int, channel: str, code: str, text: str) -> None:
    who = visitor([2, 0], counts=np.array([3, 1], np.float32))
    reason = Reasons(rows(0, 1, 2, 3), who, pinned, {"item_cf": CF}).of(row, channel)
    assert (reason.code, reason.text) == (code, text)


def test_a_visitor_without_a_history_gets_reasons_too(pinned: Pinned) -> None:
    made = Reasons(rows(0, 1), visitor(), pinned, {"item_cf": CF})
    assert made.of(0, "content").text == "Similar to what you took"
    assert made.of(0, "item_cf").text == "Often taken together with what you took"


def test_without_vectors_the_newest_item_stands_for_the_history() -> None:
    bare = shelf([item("a"), item("b"), item("c")]).pin()
    assert Reasons(rows(0), visitor([2, 1]), bare, {}).of(0, "content").text == "Similar to title of c"


def test_the_channel_that_said_most_is_named_first() -> None:
    def found(*r: int) -> Scored:
        return Scored("x", rows(*r), np.ones(len(r), np.float32))

    channels = {"hot": Channel(0.5, 9), "content": Channel(1.0, 9), "new": Channel(1.0, 9)}
    all_found = {"hot": found(7, 5), "content": found(1, 5), "new": found(5)}
    said = channels_of(
        rows(5, 7, 3), Candidates(rows(), np.zeros(0, np.float32), all_found), replace(HOME, channels=channels)
    )
    assert said == {5: ("new", "content", "hot"), 7: ("hot",), 3: ()}


KNOWN = Profile(
    (Recent("c", NOW - 1000, 5, 2), Recent("gone", NOW - 1500, 5, 1), Recent("a", NOW - 2000, 1, 0)),
    frozenset({"a", "c", "gone"}),
)


def test_a_profile_becomes_rows_newest_first_and_leaves_out_what_is_not_on_the_shelf(pinned: Pinned) -> None:
    who = as_visitor(Ask("home", user_id="1"), KNOWN, pinned, NOW)
    assert who.name == "u:1"
    assert (who.recent.tolist(), who.weights.tolist(), who.counts.tolist()) == ([2, 0], [5, 1], [2, 0])
    assert who.ages_s.tolist() == [1.0, 2.0]
    assert sorted(who.seen.tolist()) == [0, 2]
    assert who.context is None


def test_an_event_of_the_future_is_of_this_moment(pinned: Pinned) -> None:
    ahead = Profile((Recent("c", NOW + 60_000, 5, 1),))
    assert as_visitor(Ask("home"), ahead, pinned, NOW).ages_s.tolist() == [0.0]


@pytest.mark.parametrize(
    ("context", "from_context", "recent", "row"),
    [("b", False, [1, 2, 0], 1), ("a", False, [0, 2], 0), ("b", True, [1], 1), ("nobody", True, [2, 0], None)],
)
def test_the_item_looked_at_counts_first_and_alone_where_it_alone_matters(
    pinned: Pinned, context: str, from_context: bool, recent: list[int], row: int | None
) -> None:
    who = as_visitor(Ask("home", user_id="1", context_item_id=context), KNOWN, pinned, NOW, from_context)
    assert (who.recent.tolist(), who.context) == (recent, row)


async def test_a_history_that_cannot_be_read_is_empty_and_named() -> None:
    away, budget = connect("redis://127.0.0.1:9/0"), Budget(SystemClock(), 0.2)
    assert await read_profile(away, "p", "t", Ask("home", user_id="1"), budget) == Profile()
    assert budget.degraded[0].stage == "profile"
    assert budget.degraded[0].reason.startswith("history cannot be read: ")
    nobody = Budget(SystemClock(), 0.2)
    assert await read_profile(away, "p", "t", Ask("home"), nobody) == Profile()
    assert nobody.degraded == []
    await away.aclose()
