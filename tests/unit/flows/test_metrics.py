"""Realtime metrics: what is counted where, and what a reader sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from ray_app.analytics.realtime import Counts, Slot, read
from ray_app.config import Metrics as Settings
from ray_app.events.base import Logged, Topics
from ray_app.events.schema import behavior_entry
from ray_app.flows.metrics import Metrics, Shown
from ray_app.recommend.request_id import RequestIds
from ray_app.streams.flow import Batch
from ray_app.streams.state import State
from ray_app.types import Behavior
from tests.unit.make import DAY_MS, NOW, TENANT, behavior

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

IDS, PLACE, MINUTE_MS = RequestIds(b"k" * 32), ("topic", 0), 60_000
FOREVER = Settings(minutes_keep_s=10**10, hours_keep_s=10**10, days_keep_s=10**10)


async def request_ids() -> Callable[[str], Shown | None]:
    return IDS.read


class Counted:
    def __init__(self, redis: Redis) -> None:
        self.redis, self._state = redis, State(redis, "p", "metrics", 600)

    async def write(self, events: Sequence[Behavior], now: int = NOW, settings: Settings = FOREVER) -> None:
        """As one batch."""
        start = (await self._state.positions([PLACE]))[PLACE]
        logged = [Logged(*PLACE, start + k, now, "", behavior_entry(b).body) for k, b in enumerate(events)]
        ops = await Metrics(Topics(("topic",)), "p", settings, request_ids).flush(Batch(logged))
        assert await self._state.advance(PLACE, (start, start + len(events)), now, ops) == start + len(events)

    async def of(self, window: str = "1d", at: int = NOW, **names: str) -> Counts:
        (found,) = await read(self.redis, "p", Slot(TENANT, **names), window, (at, at))
        return found

    async def clicks(self, **names: str) -> int:
        return (await self.of(**names)).clicks


@pytest.fixture
def counted(redis: Redis) -> Counted:
    return Counted(redis)


def seen(id: str, type: str = "click", user: str = "1", at: int = NOW, **more: str) -> Behavior:
    return behavior(id, "i", at, type=type, user_id=user, **more)


async def test_impressions_clicks_conversions_and_users_are_counted_in_every_window(counted: Counted) -> None:
    kinds = ("impression", "impression", "impression", "impression", "click", "purchase", "like")
    await counted.write([seen(f"e{k}", type, f"u{k % 3}") for k, type in enumerate(kinds)])
    for window in ("1m", "1h", "1d"):
        found = await counted.of(window)
        assert (found.impressions, found.clicks, found.conversions, found.users, found.late) == (4, 1, 1, 3, 0)
        assert found.ctr == 0.25
    assert (await counted.of(scenario="home")).ctr is None


async def test_scenario_and_arms_are_those_of_the_signed_request(counted: Counted) -> None:
    signed = IDS.make("u", "home", {"ranking": "new", "page": "long"})
    await counted.write([
        seen("e1", scenario="feed", request_id=signed), seen("e2", scenario="feed", request_id=signed[:-1] + "x"),
        seen("e3", scenario="feed"), seen("e4", request_id=IDS.make("v", "home")),
    ])  # fmt: skip
    assert [await counted.clicks(), await counted.clicks(scenario="home"), await counted.clicks(scenario="feed")] == [
        4, 2, 2,
    ]  # fmt: skip
    assert [await counted.clicks(arm=a) for a in ("ranking=new", "page=long", "ranking=old")] == [1, 1, 0]
    assert await counted.clicks(scenario="home", arm="ranking=new") == 1
    assert await counted.clicks(scenario="feed", arm="ranking=new") == 0


@pytest.mark.parametrize("names", [{"scenario": "a:b"}, {"scenario": "a%3Ab"}, {"arm": "a:b=c"}])
async def test_a_colon_in_a_name_mixes_nothing_up(counted: Counted, names: Mapping[str, str]) -> None:
    arms = {"a:b": "c"} if "arm" in names else {}
    await counted.write([seen("e", request_id=IDS.make("u", names.get("scenario", "home"), arms))])
    assert await counted.clicks(**names) == 1
    assert await counted.clicks(scenario="a") == 0


async def test_windows_follow_the_time_of_the_behaviour(counted: Counted) -> None:
    start = NOW // DAY_MS * DAY_MS
    await counted.write(
        [seen("e1", at=start), seen("e2", at=start + MINUTE_MS - 1), seen("e3", at=start + MINUTE_MS)], start
    )
    found = await read(counted.redis, "p", Slot(TENANT), "1m", (start - MINUTE_MS, start + MINUTE_MS))
    assert [(c.since - start, c.clicks) for c in found] == [(-MINUTE_MS, 0), (0, 2), (MINUTE_MS, 1)]
    assert (await counted.of("1h", start)).clicks == 3


async def test_what_comes_too_late_is_counted_as_late_when_it_came(counted: Counted) -> None:
    lateness_ms = FOREVER.lateness_s * 1000
    await counted.write([seen("e1", at=NOW - lateness_ms), seen("e2", user="2", at=NOW - lateness_ms - 1)])
    then, came = await counted.of("1m", NOW - lateness_ms), await counted.of("1m")
    assert (then.clicks, then.users, then.late) == (1, 1, 0)
    assert (came.clicks, came.users, came.late) == (0, 0, 1)


async def test_a_repeated_event_and_a_batch_that_comes_again_count_once(counted: Counted) -> None:
    await counted.write([seen("e1"), seen("e1"), seen("e2")])
    await counted.write([seen("e2"), seen("e3")])
    found = await counted.of()
    assert (found.clicks, found.users) == (3, 1)


async def test_counts_end_when_their_time_is_over(counted: Counted) -> None:
    now = int((await counted.redis.time())[0]) * 1000
    settings = Settings(minutes_keep_s=60, hours_keep_s=3600)
    await counted.write([seen("e1", at=now), seen("e2", at=now - 30 * 60_000)], now, settings)
    left = {k.decode() for k in await counted.redis.keys("p:metrics:*")}
    assert len([k for k in left if ":1m:" in k]) == 2  # of now: the counts and the users; the older minute is gone
    for k in left:
        assert 0 < await counted.redis.ttl(k) <= {"1m": 120, "1h": 7200, "1d": 401 * 86400}[k.split(":")[3]]


async def test_many_visitors_of_one_batch_are_counted(counted: Counted) -> None:
    await counted.write([seen(f"e{k}", user=f"u{k}") for k in range(9000)])
    assert (await counted.of()).clicks == 9000
    assert abs((await counted.of()).users - 9000) < 300
