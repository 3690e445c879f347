"""Training examples from hand-made rows whose answer is known, on the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ray_app.analytics.examples import Asked, confirmed_answers, examples
from ray_app.events.base import Logged, Topics
from ray_app.events.schema import behavior_entry, slate_entry
from ray_app.flows.behaviors import Behaviors
from ray_app.flows.slates import Slates
from ray_app.stores.olap import Olap
from ray_app.streams.flow import Batch
from ray_app.types import Behavior, Placed, Reason, Slate
from tests.unit.make import NOW

WINDOW_S = 3600
ASKED = Asked("t", NOW, NOW + 10_000_000, WINDOW_S)
REASON = Reason("POPULAR", "Popular this week")
FEATURES = {"a": (0.1, 1.5), "b": (0.25, -3.0), "c": (0.5, 7.0)}


PLAIN = Slate("r", "t", "home", "u:1", NOW, ())


class House:
    """Slates and behaviours as the two sinks write them."""

    def __init__(self, olap: Olap) -> None:
        self.olap = olap
        self._n = 0

    async def show(self, request: str, at: int = 0, items: str = "abc", **changed: Any) -> None:
        placed = tuple(Placed(i, 1.0 - k / 10, ("hot", "new"), REASON, FEATURES[i]) for k, i in enumerate(items))
        slate = Slate(request, "t", "home", "u:1", NOW + at, placed, versions={"ranker": "7"})
        await self.put(replace(slate, **changed))

    async def put(self, slate: Slate) -> None:
        entry = slate_entry(slate)
        await Slates(Topics(("t",)), self.olap).flush(Batch([Logged("t", 0, 0, NOW, "", entry.body)]))

    async def do(self, item: str, type: str, at: int = 1, request: str | None = "r", **changed: Any) -> None:
        self._n += 1
        known = {"event_id": f"e{self._n}", "tenant": "t", "user_id": "1", "value": None, **changed}
        b = Behavior(item_id=item, type=type, occurred_at=NOW + at, request_id=request, **known)
        entries = [Logged("t", 0, 0, NOW + 10**7, "", behavior_entry(b).body)]
        await Behaviors(Topics(("t",)), self.olap).flush(Batch(entries))

    async def see(self, request: str = "r", items: str = "abc", at: int = 1) -> None:
        for item in items:
            await self.do(item, "impression", at, request)

    async def labels(self, asked: Asked = ASKED) -> dict[tuple[str, str], tuple[int, int, float]]:
        """(clicked, converted, watch time) by request and item."""
        found = await examples(self.olap, asked)
        names = ("request_id", "item_id", "clicked", "converted", "watch_time")
        lines = list(zip(*(found[n].tolist() for n in names), strict=True)) if found else []
        assert len({line[:2] for line in lines}) == len(lines), "an item of an answer has two rows"
        return {(r, i): (c, v, w) for r, i, c, v, w in lines}


@pytest.fixture
async def house(clickhouse_url: str) -> AsyncIterator[House]:
    olap = Olap(clickhouse_url)
    for table in ("behaviors", "slates"):
        await olap.query(f"TRUNCATE TABLE {table}")
    yield House(olap)
    await olap.close()


NOTHING = (0, 0, 0.0)


async def test_an_example_has_what_was_shown_and_what_followed(house: House) -> None:
    await house.show("r")
    await house.see()
    await house.do("a", "click", 5)
    await house.do("a", "purchase", 6)
    await house.do("b", "play", 7, value=12.5)
    await house.do("b", "play", 9, value=2.5)
    assert await house.labels() == {("r", "a"): (1, 1, 0.0), ("r", "b"): (0, 0, 15.0), ("r", "c"): NOTHING}
    found = await examples(house.olap, ASKED)
    assert [list(np.float32(f)) for f in found["features"]] == [list(np.float32(FEATURES[i])) for i in "abc"]
    assert found["position"].tolist() == [0, 1, 2]
    assert found["score"].tolist() == pytest.approx([1.0, 0.9, 0.8])
    assert list(found["channels"][0]) == ["hot", "new"]
    assert found["versions"].tolist() == ['{"ranker":"7"}'] * 3


async def test_an_example_has_the_propensity_with_which_it_was_drawn_and_1_where_nothing_was(house: House) -> None:
    drawn = tuple(Placed(i, 1.0, ("hot",), REASON, FEATURES[i], propensity=p) for i, p in (("a", 0.25), ("b", 1.0)))
    await house.put(replace(PLAIN, items=drawn))
    await house.see(items="ab")
    assert (await examples(house.olap, ASKED))["propensity"].tolist() == [0.25, 1.0]


async def test_features_come_back_to_the_bit_also_where_some_are_missing_and_an_item_has_none(house: House) -> None:
    values = np.float32([0.1, -0.0, np.nan, 1e-30, 16777217.0, 3.14159274])
    several = (Placed("a", 1.0, ("hot",), REASON, tuple(values.tolist())), Placed("b", 0.5, ("hot", "new"), REASON))
    await house.put(replace(PLAIN, items=several))
    await house.see(items="ab")
    found = await examples(house.olap, ASKED)
    assert [np.float32(f).tobytes() for f in found["features"]] == [values.tobytes(), b""]
    assert [list(c) for c in found["channels"]] == [["hot"], ["hot", "new"]]


async def test_of_too_many_answers_some_are_whole_and_the_others_absent(house: House) -> None:
    for k in range(40):
        await house.show(f"r{k}", k, "ab")
        await house.see(f"r{k}", "ab", k + 1)
    await house.do("a", "click", 100, None)  # counts for the last answer, whether that is read or not
    some = await house.labels(replace(ASKED, one_in=4))
    assert 0 < len({r for r, _ in some}) < 30
    assert len(some) == 2 * len({r for r, _ in some})
    every = await house.labels()
    assert some == {k: every[k] for k in some}


async def test_only_what_was_confirmed_is_an_example(house: House) -> None:
    await house.show("r")
    await house.see(items="ab")
    await house.do("c", "click", 5)
    await house.show("silent", 10, "ab")
    await house.do("a", "click", 12, "silent")
    assert await house.labels() == {("r", "a"): NOTHING, ("r", "b"): NOTHING}
    await house.see("silent", "a", ASKED.until - NOW + WINDOW_S * 1000)  # later than anything may count
    assert await confirmed_answers(house.olap, ASKED) == [{"scenario": "home", "answers": 2, "confirmed": 1}]


@pytest.mark.parametrize(("at", "counts"), [(-1, 0), (0, 1), (WINDOW_S * 1000 - 1, 1), (WINDOW_S * 1000, 0)])
@pytest.mark.parametrize("request_id", ["r", None])
async def test_a_behaviour_counts_from_the_answer_on_until_the_window_ends(
    house: House, at: int, counts: int, request_id: str | None
) -> None:
    await house.show("r")
    await house.see()
    await house.do("a", "click", at, request_id)
    assert (await house.labels())["r", "a"] == (counts, 0, 0.0)


@pytest.mark.parametrize("changed", [
    {"user_id": "2"}, {"user_id": None, "session_id": "1"}, {"tenant": "t2"}, {"request": "another"}, {"item": "z"},
])  # fmt: skip
async def test_what_another_did_or_elsewhere_counts_for_nothing(house: House, changed: dict[str, Any]) -> None:
    await house.show("r")
    await house.see()
    await house.do(changed.pop("item", "a"), "click", 5, changed.pop("request", "r"), **changed)
    assert set((await house.labels()).values()) == {NOTHING}


async def test_another_visitors_impression_confirms_nothing(house: House) -> None:
    await house.show("r")
    await house.do("a", "impression", user_id="2")
    assert await house.labels() == {}


async def test_an_answer_to_somebody_unknown_is_followed_by_its_name(house: House) -> None:
    await house.show("r", visitor="")
    await house.see()
    await house.do("a", "click", 5)
    await house.do("b", "click", 5, None)
    assert await house.labels() == {("r", "a"): (1, 0, 0.0), ("r", "b"): NOTHING, ("r", "c"): NOTHING}


async def test_a_behaviour_that_names_no_answer_counts_for_the_last_one_that_showed_the_item(house: House) -> None:
    await house.show("first", 0, "ab")
    await house.see("first", "ab", 1)
    await house.show("second", 1000, "bc")
    await house.see("second", "bc", 1001)
    await house.show("third", 2000, "b")  # nobody saw it
    await house.do("b", "purchase", 500, None)
    await house.do("b", "click", 3000, None)
    await house.do("a", "click", 3000, None)
    assert await house.labels() == {
        ("first", "a"): (1, 0, 0.0), ("first", "b"): (0, 1, 0.0),
        ("second", "b"): (1, 0, 0.0), ("second", "c"): NOTHING,
    }  # fmt: skip


async def test_repeated_events_and_answers_count_once(house: House) -> None:
    for _ in range(2):
        await house.show("r", items="ab")
        await house.do("a", "impression", 1, event_id="i1")
        await house.do("a", "play", 2, event_id="p1", value=3.0)
    await house.do("a", "impression", 3)
    assert await house.labels() == {("r", "a"): (0, 0, 3.0)}


async def test_an_answer_belongs_to_the_time_in_which_it_was_given(house: House) -> None:
    for at in (-1, 0, 999, 1000):
        await house.show(f"r{at}", at, "a")
        await house.see(f"r{at}", "a", at)
    assert [r for r, _ in await house.labels(replace(ASKED, until=NOW + 1000))] == ["r0", "r999"]


async def test_what_names_no_answer_goes_to_one_just_after_the_asked_time_and_not_to_the_one_before(
    house: House,
) -> None:
    for name, at in (("before", 999), ("after", 1000)):
        await house.show(name, at, "a")
        await house.see(name, "a", at + 1)
    await house.do("a", "click", 1500, None)
    assert await house.labels(replace(ASKED, until=NOW + 1000)) == {("before", "a"): NOTHING}
    assert await house.labels(replace(ASKED, since=NOW + 1000)) == {("after", "a"): (1, 0, 0.0)}


async def test_examples_of_one_scenario_keep_what_the_others_were_followed_by(house: House) -> None:
    for request, at, scenario in (("first", 0, "home"), ("second", 1000, "related")):
        await house.show(request, at, "a", scenario=scenario)
        await house.see(request, "a", at)
    await house.do("a", "click", 1500, None)
    assert await house.labels(replace(ASKED, scenario="home")) == {("first", "a"): NOTHING}
    assert await house.labels(replace(ASKED, scenario="related")) == {("second", "a"): (1, 0, 0.0)}
