"""Schedulers as processes of their own, on one Redis and the machine's clock: killed, stopped past their lease, and
the Redis with them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ray_app.clock import SystemClock
from ray_app.tasks.due import due
from ray_app.tasks.policy import RAN
from ray_app.tasks.schedule import written
from tests.conftest import RedisServer
from tests.schedules_world import World

pytestmark = pytest.mark.long
LEASE_S = 1.0
SOAK = bool(os.environ.get("SOAK"))
POLICIES: dict[str, dict[str, Any]] = {
    "each": {"coalesce": "all", "most": 1000, "overlap": "allow"},
    "newest": {"coalesce": "latest", "overlap": "allow"},
    "chain": {"coalesce": "all", "most": 1000, "overlap": "buffer_all"},
}
IDS = [f"{name}-{k}" for name in POLICIES for k in range(4)]


class Members:
    """Schedulers, of which one leads. `stop` is SIGSTOP, `kill` kill -9."""

    def __init__(self, redis_url: str, data: Path) -> None:
        self._asked = {"redis_url": redis_url, "data": str(data), "lease_s": LEASE_S}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        log = (Path(self._asked["data"]) / f"member-{len(self.processes)}.log").open("wb")
        line = [sys.executable, "-m", "tests.crash.scheduler_member"]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert process.stdin
        process.stdin.write(json.dumps(self._asked).encode() + b"\n")
        process.stdin.flush()
        self.processes.append(process)
        return process

    def said(self) -> list[str]:
        return [f.read_text() for f in sorted(Path(self._asked["data"]).glob("member-*.log"))]

    def end(self) -> None:
        for p in self.processes:
            p.send_signal(signal.SIGCONT)
            p.kill()
            p.wait()


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = World(redis_url, tmp_path, SystemClock())
    yield made
    await made.close()


@pytest.fixture
async def members(redis_url: str, tmp_path: Path, world: World) -> AsyncIterator[Members]:
    """Schedules of every second, and nobody that decides yet."""
    made = Members(redis_url, tmp_path)
    for id in IDS:
        await world.put(id, every_s=1, **POLICIES[id.partition("-")[0]])
    yield made
    made.end()


async def decided_until(world: World, at: int) -> None:
    async def all_are() -> bool:
        return all(s.next > at for s in await world.schedules.page()) and not await world.schedules.outgoing(at)

    await world.tasks.until(all_are, 60.0)


async def check(world: World, begun: dict[str, int]) -> None:
    """Every second is named once, from the first to the last, and each that ran has one task."""
    for id in IDS:
        s = await world.schedules.get(id)
        entries = await world.ledger(id)
        last = entries[-1].at
        assert [e.at for e in entries] == [d.at for d in due(s.schedule, begun[id], last)], id
        ran = [written(e.at) for e in entries if e.why in RAN]
        assert [t for t in await world.started(id) if t <= written(last)] == ran, id
        if not id.startswith("newest"):
            assert len(ran) == len(entries), id


async def begin(world: World, members: Members, n: int) -> dict[str, int]:
    """For each schedule the last second that was not its own."""
    first = {s.schedule.id: s.next for s in await world.schedules.page()}
    for _ in range(n):
        members.start()
    await decided_until(world, max(first.values()))
    return {id: at - 1000 for id, at in first.items()}


async def leader(world: World, members: Members) -> int:
    """Its place in `processes`: the one that said so last."""
    epochs = [s.count("this scheduler leads") for s in members.said()]
    alive = [k for k, p in enumerate(members.processes) if p.poll() is None and epochs[k]]
    newest = {k: members.said()[k].rpartition('"epoch":')[2].split("}")[0].split(",")[0] for k in alive}
    return max(alive, key=lambda k: int(newest[k]))


async def test_a_killed_one_is_followed_within_its_lease(world: World, members: Members) -> None:
    """RedBeat: the lock lives for 1500 s, and the standby looks every 300 s."""
    begun = await begin(world, members, 2)
    for _ in range(3):
        killed = await leader(world, members)
        members.processes[killed].kill()
        at = world.clock.now()
        members.start()
        await decided_until(world, at + 2000)
        assert world.clock.now() - at < 2000 + (LEASE_S + 2) * 1000
    await decided_until(world, world.clock.now())
    await check(world, begun)


async def test_a_stopped_one_wakes_behind_its_lease_and_starts_nothing(world: World, members: Members) -> None:
    """RedBeat #218: a pause of the machine loses the lock, and who wakes sends what it had in hand."""
    begun = await begin(world, members, 2)
    for _ in range(3):
        stopped = members.processes[await leader(world, members)]
        stopped.send_signal(signal.SIGSTOP)
        await decided_until(world, world.clock.now() + 2000)
        stopped.send_signal(signal.SIGCONT)
        await decided_until(world, world.clock.now() + 1000)
    assert all(p.poll() is None for p in members.processes)
    await check(world, begun)


async def test_whatever_dies_every_second_is_named_once(
    world: World, members: Members, redis_server: RedisServer
) -> None:
    """Members and Redis are killed and stopped at random moments, also two schedulers at a time."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown where it fails
    rng, begun = random.Random(seed), await begin(world, members, 3)
    for _ in range(60 if SOAK else 12):
        victim = rng.choice([p for p in members.processes if p.poll() is None])
        what = rng.choice(["kill", "stop", "redis"])
        await asyncio.sleep(rng.uniform(0.0, 0.7))  # the moment is the test's, not a wait for anything
        if what == "kill":
            victim.kill()
            members.start()
        elif what == "stop":
            victim.send_signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_S * rng.uniform(0.5, 1.5))
            victim.send_signal(signal.SIGCONT)
        else:
            redis_server.kill()
            await asyncio.sleep(rng.uniform(0.0, 1.5))
            redis_server.start()
    await decided_until(world, world.clock.now())
    await check(world, begun)
