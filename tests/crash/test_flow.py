"""Counts equal a recount of the log's first occurrences, wherever a flow is cut off; everything is sent twice."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis.exceptions import RedisError

from ray_app.events.base import Entry
from ray_app.streams.state import SCRIPT
from tests.crash.events import BROKEN, NOW, entries
from tests.crash.world import FLOWS, GAPS, PARTITIONS, TOPIC, Abort, Dies, Sleeps, World

if TYPE_CHECKING:
    from tests.conftest import RedisServer

UNGUARDED = "\n".join(line for line in SCRIPT.splitlines() if not line.endswith("-- guard"))
NO_LAG = dict.fromkeys(range(PARTITIONS), 0)
Open = Callable[[str], Any]


@pytest.fixture
async def open_world(tmp_path: Path, redis_url: str, clickhouse_url: str) -> AsyncIterator[Open]:
    opened: list[World] = []

    def open(flow: str) -> World:
        opened.append(World(tmp_path, redis_url, clickhouse_url, flow))
        return opened[-1]

    yield open
    for world in opened:
        await world.close()


@asynccontextmanager
async def taken_over(world: World, gap: str, script: str = SCRIPT) -> AsyncIterator[None]:
    """One member dies in the gap, the next falls asleep there, a third does the work, and then the second wakes."""
    with pytest.raises(Abort):
        await world.member(Dies(gap), script).drain()
    hook = Sleeps(gap)
    zombie = asyncio.create_task(world.member(hook, script).drain())
    await asyncio.wait_for(hook.asleep.wait(), 10)
    await world.member(script=script).drain()
    yield
    hook.wake()
    await asyncio.wait_for(zombie, 10)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("flow", FLOWS)
async def test_a_crash_and_a_woken_zombie_change_no_count(open_world: Open, flow: str, gap: str) -> None:
    world = open_world(flow)
    sent = entries(flow, world.stores.tenant)
    await world.feed([*sent[:100], BROKEN, *sent[100:]])
    async with taken_over(world, gap):
        assert await world.held() == await world.wanted()
    assert await world.held() == await world.wanted()
    assert await world.lags() == NO_LAG


@pytest.mark.parametrize("gap", GAPS[:-1])
@pytest.mark.parametrize("flow", ["hot", "metrics", "profile"])
async def test_without_the_guard_a_zombie_counts_twice(open_world: Open, flow: str, gap: str) -> None:
    """That the other tests can fail: after the last step alone there is nothing left to guard."""
    world = open_world(flow)
    await world.feed(entries(flow, world.stores.tenant))
    async with taken_over(world, gap, UNGUARDED):
        pass
    assert UNGUARDED != SCRIPT
    assert await world.held() != await world.wanted()


@pytest.mark.parametrize("flow", FLOWS)
async def test_what_cannot_be_read_is_kept_with_its_reason_and_the_flow_goes_on(open_world: Open, flow: str) -> None:
    world = open_world(flow)
    sent = entries(flow, world.stores.tenant)
    (at,) = await world.stores.log.append(TOPIC, [BROKEN])
    await world.feed(sent[:60])
    await world.member().drain()
    (letter,) = await world.letters()
    found = orjson.loads(letter.body)
    assert base64.b64decode(found.pop("body")) == BROKEN.body
    assert "JSONDecodeError" in found.pop("why")
    place = {"topic": TOPIC, "partition": at.partition, "position": at.position}
    assert found == {"flow": flow, "generation": 0, **place, "appended_at": NOW, "key": BROKEN.key}
    assert await world.held() == await world.wanted()
    assert await world.lags() == NO_LAG


@pytest.mark.parametrize("flow", FLOWS)
async def test_a_field_of_a_wrong_type_stops_no_flow(open_world: Open, flow: str) -> None:
    """Others may write to a topic; only what they wrote is set aside."""
    world = open_world(flow)
    sent = entries(flow, world.stores.tenant)[:40]
    event = orjson.loads(sent[0].body)
    inner, name = (event["item"], "version") if flow == "items" else (event, "answered_at")
    name = "occurred_at" if flow in ("behaviors", "hot", "metrics", "profile") else name
    wrong = []
    for value in ("yesterday", None, 1.5, -1, 2**60, [1]):
        inner[name] = value
        wrong.append(Entry("wrong", orjson.dumps(event)))
    await world.stores.log.append(TOPIC, wrong)
    await world.stores.log.append(TOPIC, sent)
    await world.member().drain()
    letters = [orjson.loads(e.body) for e in await world.letters()]
    assert {base64.b64decode(x["body"]) for x in letters} == {e.body for e in wrong}
    assert all(name in x["why"] for x in letters)
    assert await world.lags() == NO_LAG
    assert len(await world.held()) > 0


async def test_an_id_repeated_within_the_window_counts_once_however_the_batches_fall(open_world: Open) -> None:
    """The second occurrence begins a batch that ends long after the window."""
    world = open_world("hot")
    first, *others = entries("hot", world.stores.tenant)[1:80]
    same = [e for e in others if e.key == first.key]
    await world.stores.log.append(TOPIC, [first])
    await world.member().drain()
    await world.stores.log.append(TOPIC, [first, *same[:5]])
    world.clock.pass_s(10 * 3600)
    await world.stores.log.append(TOPIC, same[5:10])
    await world.member().drain()
    assert await world.held() == await world.wanted()


@pytest.mark.parametrize("flow", ["hot", "metrics", "profile", "items"])
async def test_a_redis_that_went_back_catches_up(open_world: Open, redis_server: RedisServer, flow: str) -> None:
    world = open_world(flow)
    sent = entries(flow, world.stores.tenant)
    await world.feed(sent[:50])
    member = world.member()
    await member.drain()
    old = redis_server.saved()
    await world.feed(sent[50:100])
    await member.drain()
    redis_server.restore(old)
    assert await world.held() != await world.wanted() if flow != "items" else True
    await world.feed(sent[100:])
    await member.drain()  # it believes itself further on, and is told where it stands
    await world.member().drain()  # partitions without a new event: their next reader begins at Redis' position
    assert await world.held() == await world.wanted()


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("flow", ["hot", "items"])
async def test_a_redis_killed_in_the_middle_of_a_step_changes_no_count(
    open_world: Open, redis_server: RedisServer, flow: str, gap: str
) -> None:
    world = open_world(flow)
    await world.feed(entries(flow, world.stores.tenant))

    class Killer(Dies):
        async def reached(self) -> None:
            redis_server.kill()

    member = world.member(Killer(gap))
    with pytest.raises((RedisError, OSError)):
        await member.drain()
    redis_server.start()
    member.forget()
    await member.drain()
    assert await world.held() == await world.wanted()


async def test_entries_lost_to_retention_are_skipped_and_the_rest_counts(open_world: Open) -> None:
    world = open_world("hot")
    sent = entries("hot", world.stores.tenant)
    await world.stores.log.append(TOPIC, sent[:100])
    world.clock.pass_s(40 * 86400)
    for k in range(256):  # the log looks at its oldest entries now and then
        await world.stores.log.append(TOPIC, [sent[100 + k % 30]])
    firsts = [await world.stores.log.first(TOPIC, p) for p in range(PARTITIONS)]
    assert any(firsts)
    await world.member().drain()
    assert await world.lags() == NO_LAG
    assert await world.held() == await world.wanted()
