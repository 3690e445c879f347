"""Members that share the partitions of one log: every log behaves alike when they come, go, die and wake up again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_app.clock import FixedClock, SystemClock, new_id
from ray_app.events.base import Entry, EventLog, Place, Topics, partition_of
from ray_app.stores.redis import connect
from ray_app.streams.flow import Bad, Batch, Loop
from ray_app.streams.letters import Letters
from ray_app.streams.partitions import Leases
from ray_app.streams.places import Places
from ray_app.streams.state import Op, State
from tests.contracts.logs import EMBEDDED, Logs

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEYS, BATCH, LEASE_S, WITHIN_S = 12, 25, 1.0, 30.0
POISON = b"poison"


class Kept:
    """Keeps the bodies of each key in a list, so that a lost, repeated or misplaced one shows."""

    name, linger_s = "kept", 0.0

    def __init__(self, topic: str) -> None:
        self.topics = Topics((topic,))

    async def flush(self, batch: Batch) -> Sequence[Op]:
        batch.bad = [Bad(e, "it is poisoned") for e in batch.entries if e.body.startswith(POISON)]
        good = {f"{e.key}/{e.body[:20]!r}": e for e in batch.entries if not e.body.startswith(POISON)}
        return [Op(("RPUSH", f"kept:{e.key}", e.body[:20]), id, e.appended_at) for id, e in good.items()]


class Member:
    """What the engine does with a flow, one turn at a time."""

    def __init__(self, log: EventLog, redis: Redis, topic: str) -> None:
        clock = SystemClock()
        self.loop = Loop(Kept(topic), log, State(redis, "lemo", "kept", 600), f"group-{topic}")
        self._leases = Leases(redis, "lemo", "kept", new_id(), LEASE_S, clock)
        self._places = Places(log, self.loop.flow.topics, clock)
        self.held: dict[Place, int] = {}
        self.applied = 0

    async def turn(self) -> None:
        await self.share()
        for place, at in list(self.held.items()):
            self.held[place] = await self.loop.step(place, at, BATCH)
            self.applied += self.held[place] - at

    async def share(self) -> None:
        mine = await self._leases.renew(await self._places.all(), self.held)
        stand = await self.loop.state.positions(mine)
        self.held = {p: self.held.get(p, stand[p]) for p in mine}

    async def leave(self) -> None:
        await self._leases.leave(self.held)


class World:
    def __init__(self, logs: Logs, redis: Redis, close: AsyncExitStack) -> None:
        self.logs, self._redis, self._close = logs, redis, close
        self.topic = f"t-{new_id()}"
        self.log = self.open()
        self.sent: dict[str, list[bytes]] = {}
        self._number = 0

    def open(self) -> EventLog:
        log = self.logs.open()
        self._close.push_async_callback(log.close)
        return log

    def member(self) -> Member:
        return Member(self.open(), self._redis, self.topic)

    async def send(self, n: int) -> None:
        """`n` entries, and every tenth again."""
        for k in range(self._number, self._number + n):
            e = Entry(f"k{k % KEYS}", b"%d" % k)
            await self.log.append(self.topic, [e, e] if k % 10 == 0 else [e])
            self.sent.setdefault(e.key, []).append(e.body)
        self._number += n

    async def kept(self) -> dict[str, list[bytes]]:
        found = {key: await self.kept_of(key) for key in (f"k{k}" for k in range(KEYS))}
        return {key: bodies for key, bodies in found.items() if bodies}

    async def kept_of(self, key: str) -> list[bytes]:
        found: Any = await self._redis.lrange(f"kept:{key}", 0, -1)
        return list(found)

    def letters(self) -> Letters:
        return Letters(self.open(), self._redis, "lemo")  # a log that is open sees a new topic after 5 s at the latest


@pytest.fixture(params=[*EMBEDDED, "kafka"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as close:
        redis = connect(redis_url)
        close.push_async_callback(redis.aclose)
        yield World(Logs(request.param, tmp_path, request, FixedClock(1_000_000_000)), redis, close)


async def turns(members: Sequence[Member], until: Callable[[], Awaitable[bool]], why: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not await until():
        assert time.monotonic() < deadline, why
        for m in members:
            await m.turn()
        await asyncio.sleep(0.02)  # a poll of leases, not a race


def has_all(world: World) -> Callable[[], Awaitable[bool]]:
    async def all_kept() -> bool:
        return sum(map(len, (await world.kept()).values())) >= sum(map(len, world.sent.values()))

    return all_kept


async def test_members_share_the_partitions_as_they_come_and_go(world: World) -> None:
    first = world.member()
    await world.send(200)
    await turns([first], has_all(world), "one member applies all")
    assert len(first.held) == 4
    second, third = world.member(), world.member()
    await world.send(200)
    await turns([first, second], has_all(world), "two members apply all")
    assert sorted(len(m.held) for m in (first, second)) == [2, 2]
    assert second.applied > 0
    await first.leave()
    await world.send(200)
    await turns([second, third], has_all(world), "those that are left apply all")
    assert sorted(len(m.held) for m in (second, third)) == [2, 2]
    assert await world.kept() == world.sent


async def test_a_member_that_dies_is_replaced_after_its_lease(world: World) -> None:
    alive, dies = world.member(), world.member()
    for m in (alive, dies, alive, dies):
        await m.share()
    assert sorted(len(m.held) for m in (alive, dies)) == [2, 2]
    await world.send(200)
    began = time.monotonic()
    await turns([alive], has_all(world), "the other takes over")
    assert time.monotonic() - began < LEASE_S + 5
    assert len(alive.held) == 4
    assert await world.kept() == world.sent


@pytest.mark.parametrize("gap", ["read", "flushed", "buried"])
async def test_a_member_that_wakes_up_after_it_was_replaced_changes_nothing(world: World, gap: str) -> None:
    asleep, wake = asyncio.Event(), asyncio.Event()

    async def sleeps(at: str) -> None:
        if at == gap and not asleep.is_set():
            asleep.set()
            await wake.wait()

    zombie, other = world.member(), world.member()
    zombie.loop.hook = sleeps
    await world.send(200)
    sleeping = asyncio.create_task(zombie.turn())
    await asyncio.wait_for(asleep.wait(), WITHIN_S)
    await turns([other], has_all(world), "the other takes over")
    wake.set()
    await sleeping
    await world.send(100)
    await turns([zombie, other], has_all(world), "both go on")
    assert await world.kept() == world.sent


async def test_a_member_that_fails_reads_the_same_again(world: World) -> None:
    class Broken(Exception):
        pass

    failures = 3

    async def fails(at: str) -> None:
        nonlocal failures
        if at == "buried" and failures:
            failures -= 1
            raise Broken

    member = world.member()
    member.loop.hook = fails
    await world.send(100)
    for _ in range(3):
        with pytest.raises(Broken):
            await member.turn()
    await turns([member], has_all(world), "it applies all")
    assert await world.kept() == world.sent


async def test_a_poisoned_message_stops_nothing_and_lies_in_the_dead_letters(world: World) -> None:
    member, large = world.member(), POISON + bytes(4 * 1024 * 1024 - len(POISON))
    await world.send(50)
    await world.log.append(world.topic, [Entry("k0", POISON), Entry("k1", large)])
    await world.send(50)
    await turns([member], has_all(world), "it applies the others")
    assert await world.kept() == world.sent
    found = [one async for one in world.letters().read(world.topic)]
    assert sorted((one.key, one.body, one.why) for one in found) == [
        ("k0", POISON, "it is poisoned"), ("k1", large, "it is poisoned"),
    ]  # fmt: skip


async def test_a_message_of_a_megabyte_is_applied_among_others(world: World) -> None:
    member = world.member()
    await world.send(30)
    body = b"large" + bytes(1_000_000)
    await world.log.append(world.topic, [Entry("large", body)])
    await world.send(30)
    await turns([member], has_all(world), "it applies all")

    async def come() -> bool:
        return await world.kept_of("large") == [body[:20]]

    await turns([member], come, "the large one too")
    assert await world.kept() == world.sent


async def test_what_retention_took_is_reported_and_skipped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    member, partition = world.member(), partition_of("k0", 4)
    await world.send(50)
    await turns([member], has_all(world), "it applies all")
    at = member.held[world.topic, partition]
    await member.leave()
    await world.log.append(world.topic, [Entry("k0", b"lost")] * 40)
    await world.logs.forget(world.log, world.topic)
    world.sent["k0"].append(b"young")
    await turns([world.member()], has_all(world), "it goes on with what is left")
    assert (await world.kept())["k0"][-2:] == world.sent["k0"][-2:]
    assert f"position {at} of {world.topic}/{partition} is gone; the first that is left is {at + 40}" in caplog.text
    assert "40 entries were lost to retention. Raise events.retention_s" in caplog.text
