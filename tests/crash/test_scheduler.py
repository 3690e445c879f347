"""The scheduler dies, sleeps, or loses its store between any two steps: the ledger names every due instant once, and
each that ran has one task."""

from __future__ import annotations

from asyncio import create_task
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from ray_app.clock import FixedClock
from ray_app.errors import Unavailable
from ray_app.tasks.due import due
from ray_app.tasks.policy import RAN
from ray_app.tasks.schedule import written
from ray_app.tasks.scheduler import Scheduler
from ray_app.tasks.schedules import Fenced
from tests.conftest import RedisServer
from tests.crash.world import Abort, Dies, Sleeps
from tests.schedules_world import START, World, at, settled

GAPS = ("read", "decided", "outgoing", "cancelled", "submitted", "delivered")
POLICIES: dict[str, dict[str, Any]] = {
    "each": {"coalesce": "all", "overlap": "allow"},
    "newest": {"coalesce": "latest", "overlap": "skip"},
    "chain": {"coalesce": "all", "overlap": "buffer_all"},
    "restless": {"coalesce": "all", "overlap": "cancel", "every_s": 20, "jitter_s": 15},
}
END = "2026-11-28T00:04:00Z"


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = World(redis_url, tmp_path)
    for id, fields in POLICIES.items():
        await made.put(id, **fields)
    yield made
    await made.close()


async def check(world: World, until: str = END) -> None:
    """Every due instant to `until` is named once; what ran has a task, what did not has none; nothing waits."""
    for id in POLICIES:
        s = await world.schedules.get(id)
        named = [e.at for e in await world.ledger(id)]
        assert named == [d.at for d in due(s.schedule, START, s.next - 1)], id
        assert s.wake > at(until)
        assert await world.started(id) == [written(e.at) for e in await world.ledger(id) if e.why in RAN], id
        assert sum(n for name, n in s.counts.items() if name != "late_ms") == len(named)
    assert await world.schedules.outgoing(world.clock.now()) == {}


async def another(world: World) -> Scheduler:
    """The lease of the one before has run out."""
    await world.redis.delete(world.schedules.lease)
    return world.scheduler("another")


@pytest.mark.parametrize("at_pass", [1, 2, 5])
@pytest.mark.parametrize("gap", GAPS)
async def test_it_is_killed_in_a_gap_and_another_goes_on(world: World, gap: str, at_pass: int) -> None:
    """RedBeat and Celery beat write the next run, then send: a crash between the two, or an error, loses that run."""
    with pytest.raises(Abort):
        await world.pass_to(world.scheduler(hook=Dies(gap, at_pass)), END)
    await world.pass_to(await another(world), END)
    await settled(await another(world))
    await check(world)


@pytest.mark.parametrize("gap", GAPS)
async def test_it_sleeps_in_a_gap_past_its_lease_and_wakes_when_another_leads(world: World, gap: str) -> None:
    """RedBeat: a tick that is longer than the lock sends twice (#127, #218)."""
    sleeper = Sleeps(gap, 2)
    old = world.scheduler(hook=sleeper)
    asleep = create_task(world.pass_to(old, END))
    await sleeper.asleep.wait()
    new = await another(world)
    await settled(new)
    sleeper.wake()
    with pytest.raises(Fenced):
        await asleep
    await world.pass_to(new, END)
    await check(world)


class Cut:
    """Breaks the connection at one call: before Redis has it, or behind it, so that the answer is lost."""

    def __init__(self, world: World, call: int, behind: bool) -> None:
        self.calls, self.ended, self._call, self._behind = 0, False, call, behind
        redis: Any = world.redis
        redis.execute_command = self._wrapped(redis.execute_command)
        pipeline = redis.pipeline

        def cut_pipeline(*args: Any, **more: Any) -> Any:
            made = pipeline(*args, **more)
            made.execute = self._wrapped(made.execute)
            return made

        redis.pipeline = cut_pipeline

    def _wrapped(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls != self._call or self.ended:
                return await real(*args, **more)
            if self._behind:
                await real(*args, **more)
            raise ConnectionError("cut")

        return call


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.long
async def test_the_connection_breaks_at_every_call(redis_url: str, tmp_path: Path, behind: bool) -> None:
    call, broken = 0, 0
    while call == broken:  # until a run had fewer calls than that
        call += 1
        quiet, cut = World(redis_url, tmp_path), World(redis_url, tmp_path)
        await quiet.redis.flushall()
        for id, fields in POLICIES.items():
            await quiet.put(id, **fields)
        cut.fixed = cut.schedules.clock = cut.clock = quiet.fixed
        cutter, scheduler = Cut(cut, call, behind), cut.scheduler()
        try:
            await quiet.pass_to(scheduler, "2026-11-28T00:02:00Z")
        except (ConnectionError, Unavailable):
            broken += 1
        cutter.ended = True
        await quiet.pass_to(scheduler, END)
        await check(quiet)
        assert cutter.calls > 20
        await quiet.close()
        await cut.close()
    assert broken > 20


async def test_redis_is_away_at_the_due_second(world: World, redis_server: RedisServer) -> None:
    """RedBeat #238, #208: a failure to take the lock is ignored, and it goes on without. Here nothing is decided
    without the store, and the ledger says why it was late."""
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:01:30Z")
    redis_server.kill()
    for _ in range(3):
        world.fixed.pass_s(20)
        with pytest.raises((ConnectionError, OSError)):
            await scheduler.turn()
    redis_server.start()
    await settled(scheduler)
    late = {written(e.at): e for e in await world.ledger("each")}["2026-11-28T00:02:00Z"]
    assert (str(late.why), late.note) == ("caught_up", "the state store was away")
    await world.pass_to(scheduler, END)
    await check(world)


async def test_redis_loses_what_came_last(world: World, redis_server: RedisServer) -> None:
    """Ledger, next due time, outbox and tasks go back together, and the lease with them."""
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:01:10Z")
    saved = redis_server.saved()
    await world.pass_to(scheduler, "2026-11-28T00:03:10Z")
    redis_server.restore(saved)
    await settled(scheduler)
    await world.pass_to(scheduler, END)
    await check(world)


class Jumping(FixedClock):
    """The wall clock is changed; the other one goes on."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self._jumped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() - self._jumped

    def jump_s(self, seconds: float) -> None:
        self.pass_s(seconds)
        self._jumped += seconds


@pytest.mark.parametrize("by_s", [3600, -3600, 90, -90])
async def test_the_clock_jumps(redis_url: str, tmp_path: Path, by_s: int) -> None:
    world = World(redis_url, tmp_path)
    world.fixed = world.clock = world.schedules.clock = clock = Jumping(START)
    for id, fields in POLICIES.items():
        await world.put(id, **fields)
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:02:10Z")
    before = Counter(await world.started("each"))
    clock.jump_s(by_s)
    await settled(scheduler)
    if by_s < 0:
        assert Counter(await world.started("each")) == before
    else:
        assert "the clock jumped" in {e.note for e in await world.ledger("each")}
    end = written(max(clock.now(), at("2026-11-28T00:02:10Z")) + 120_000)
    await world.pass_to(scheduler, end)
    await check(world, end)
    await world.close()
