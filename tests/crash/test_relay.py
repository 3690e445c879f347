"""The history of tasks on its way: nothing is lost wherever a relay is cut off; what is shipped twice counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from ray_app.analytics.tasks import History, Wanted
from ray_app.clock import SystemClock, new_id
from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Entry, Topics
from ray_app.events.memory import MemoryLog
from ray_app.flows.tasks import Tasks
from ray_app.stores.olap import Olap
from ray_app.streams.flow import Loop
from ray_app.streams.state import State as FlowState
from ray_app.tasks.desk import Desk
from ray_app.tasks.figures import Figure
from ray_app.tasks.inspection import Inspection
from ray_app.tasks.relay import Lease, Relay
from tests.crash.handlers import HANDLERS
from tests.tasks_world import NOBODY, TasksWorld, settings_of

TOPIC = "history-of-tests"
LATEST = 10**14


class Abort(Exception):
    """The process ends here."""


class DyingLog(MemoryLog):
    """The process dies when this log has the batch, and before anybody hears of it."""

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        await super().append(topic, entries)
        raise Abort


class SleepyLog(MemoryLog):
    """Its process is frozen there until `wake`."""

    def __init__(self) -> None:
        super().__init__(2, SystemClock())
        self.asleep, self.wake = asyncio.Event(), asyncio.Event()

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        done = await super().append(topic, entries)
        self.asleep.set()
        await self.wake.wait()
        return done


@dataclass
class Office:
    tasks: TasksWorld
    log: MemoryLog

    def relay(self, log: MemoryLog | None = None, batch: int = 10) -> Relay:
        return Relay(self.tasks.redis, self.tasks.queue.prefix, log or self.log, TOPIC, batch)

    async def end(self, n: int) -> set[str]:
        """n attempts that have ended, without a worker."""
        ids = [await self.tasks.submit("noop", {"value": "x"}, eta=LATEST - 1) for _ in range(n)]
        for id in ids:
            await self.tasks.queue.cancel(id)
        return set(ids)

    async def drained(self, relay: Relay) -> int:
        shipped = 0
        while found := await relay.step():
            shipped += len(found)
        return shipped


async def shipped(*logs: MemoryLog) -> list[str]:
    read = [await log.read(TOPIC, p, 0, 1000) for log in logs for p in range(2)]
    return [orjson.loads(e.body)["id"] for entries in read for e in entries]


@pytest.fixture
async def office(redis_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    made = Office(TasksWorld(settings_of(redis_url, tmp_path), HANDLERS), MemoryLog(2, SystemClock()))
    yield made
    await made.tasks.close()


async def test_every_attempt_is_shipped_once_in_batches(office: Office) -> None:
    ids = await office.end(25)
    assert await office.drained(office.relay()) == 25
    assert sorted(await shipped(office.log)) == sorted(ids)
    assert (await office.tasks.queue.counts())["unshipped"] == 0


async def test_a_relay_that_dies_when_the_log_has_the_batch_loses_nothing(office: Office) -> None:
    ids, dying = await office.end(25), DyingLog(2, SystemClock())
    with pytest.raises(Abort):
        await office.relay(dying).step()
    assert await office.drained(office.relay()) == 25
    assert set(await shipped(office.log)) == ids
    assert len(await shipped(dying)) == 10  # twice, which the flow's table takes for one


@pytest.mark.parametrize("more", [0, 7, 30])
async def test_a_relay_that_wakes_after_another_did_its_work_takes_nothing_away(office: Office, more: int) -> None:
    ids, sleepy = await office.end(15), SleepyLog()
    frozen = asyncio.create_task(office.relay(sleepy).step())
    await asyncio.wait_for(sleepy.asleep.wait(), 10)
    await office.drained(office.relay())
    ids |= await office.end(more)
    sleepy.wake.set()
    await asyncio.wait_for(frozen, 10)
    await office.drained(office.relay())
    assert set(await shipped(office.log)) == ids


async def test_without_the_compare_a_woken_relay_would_lose_some(office: Office, monkeypatch: Any) -> None:
    """That the test before can fail."""
    monkeypatch.setattr("ray_app.tasks.relay.TRIM", "return redis.call('LTRIM', KEYS[1], ARGV[3], -1)")
    ids, sleepy = await office.end(15), SleepyLog()
    frozen = asyncio.create_task(office.relay(sleepy).step())
    await asyncio.wait_for(sleepy.asleep.wait(), 10)
    await office.drained(office.relay())
    ids |= await office.end(30)
    sleepy.wake.set()
    await asyncio.wait_for(frozen, 10)
    await office.drained(office.relay())
    assert len(ids - set(await shipped(office.log))) == 10


async def test_while_the_log_is_away_the_history_waits_in_redis(office: Office) -> None:
    ids = await office.end(5)
    office.log.away = True
    with pytest.raises(Unavailable):
        await office.relay().step()
    assert (await office.tasks.queue.counts())["unshipped"] == 5
    office.log.away = False
    await office.drained(office.relay())
    assert set(await shipped(office.log)) == ids


async def test_one_member_has_the_desk_and_another_gets_it_after_its_lease(office: Office) -> None:
    redis, key = office.tasks.redis, "desk"
    first, second = (Lease(redis, key, new_id(), 60.0) for _ in range(2))
    assert [await first.held(), await second.held(), await first.held()] == [True, False, True]
    await redis.pexpire(key, 1)

    async def is_free() -> bool:
        return await redis.exists(key) == 0

    await office.tasks.until(is_free, 5)
    assert [await second.held(), await first.held()] == [True, False]


async def test_a_large_argument_is_cut_so_that_redis_and_the_log_take_it(office: Office) -> None:
    id = await office.tasks.submit("noop", {"value": "ü" * 500_000})  # the cut goes through a letter
    await office.tasks.queue.cancel(id)
    await office.drained(office.relay())
    (entry,) = [e for p in range(2) for e in await office.log.read(TOPIC, p, 0, 10)]
    assert len(entry.body) < 70_000
    assert orjson.loads(entry.body)["argument"].endswith("ü" * 1000)


async def test_the_flow_waits_for_analytics_and_writes_each_attempt_once(office: Office, clickhouse_url: str) -> None:
    tenant = f"t-{new_id()[:8]}"
    for _ in range(2):
        id = await office.tasks.submit("noop", {"value": 1}, tenant=tenant, eta=LATEST - 1)
        await office.tasks.queue.cancel(id)
    twice = await office.tasks.redis.lrange(office.relay().key, 0, -1)
    await office.tasks.redis.rpush(office.relay().key, *twice)
    assert await office.drained(office.relay()) == 4
    filled = [(TOPIC, p) for p in range(2) if await office.log.read(TOPIC, p, 0, 1)]
    await office.log.append(TOPIC, [Entry("x", b"no record"), Entry("x", orjson.dumps({"id": "x"}))])
    away, olap = Olap(NOBODY, 1), Olap(clickhouse_url)
    state = FlowState(office.tasks.redis, "flow-of-tests", "tasks", 600)
    for place in filled:
        with pytest.raises(Unavailable):
            await Loop(Tasks(Topics((TOPIC,)), away), office.log, state, "group").step(place, 0, 100)
    for p in range(2):
        await Loop(Tasks(Topics((TOPIC,)), olap), office.log, state, "group").step((TOPIC, p), 0, 100)
    rows = await History(olap).read(Wanted(LATEST, 100, tenant=tenant))
    assert [(r["state"], r["name"]) for r in rows] == [("REVOKED", "noop")] * 2
    assert len({r["id"] for r in rows}) == 2
    letters = [e for p in range(2) for e in await office.log.read(f"{TOPIC}.dlq", p, 0, 10)]
    assert len(letters) == 2
    await away.close()
    await olap.close()


async def test_of_two_desks_one_tells_and_what_it_told_becomes_nothing_when_it_loses_the_lease(office: Office) -> None:
    await office.end(3)
    told: dict[str, list[Figure]] = {"first": [], "second": []}
    world = office.tasks
    look = Inspection(world.redis, "lemo", world.queue, world.settings.tasks, SystemClock())
    desks = {
        name: Desk(Lease(world.redis, "desk", name, 60.0), office.relay(), look, figures.extend)
        for name, figures in told.items()
    }
    assert [await desks["first"].step(), await desks["second"].step()] == [True, False]
    assert told["second"] == []
    assert [f.value for f in told["first"] if f.name == "flower_events_total"] == [1.0] * 3
    assert [f.value for f in told["first"] if f.name == "lemo_task_unshipped"] == [3.0]
    await world.redis.delete("desk")
    told["first"].clear()
    assert [await desks["second"].step(), await desks["first"].step()] == [True, False]
    assert {f.value for f in told["first"]} == {0.0}
    assert {f.name for f in told["first"]} >= {"lemo_task_unshipped", "lemo_task_queue_length"}
    assert [f for f in told["second"] if f.name == "flower_events_total"] == []  # each attempt was told once
