"""Members that share partitions: killed, stopped past their lease, failing, blocked. Counts stay exact."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_app import wiring
from ray_app.clock import SystemClock
from ray_app.config import Events, Features, Settings, Stores, Streams
from ray_app.events.base import Appended
from ray_app.events.schema import behavior_entry
from ray_app.streams.applied import wait_applied
from ray_app.streams.control import Control
from ray_app.streams.engine import Engine, Runnable
from ray_app.streams.flow import Batch, Flow
from ray_app.streams.partitions import Leases
from ray_app.streams.places import Places
from ray_app.streams.state import Op
from tests.crash import recount
from tests.crash import world as worlds
from tests.crash.events import behaviors, entries
from tests.crash.world import PARTITIONS, TOPIC, World, loop_of

if TYPE_CHECKING:
    from tests.conftest import RedisServer

FLOWS = ("behaviors", "hot", "metrics", "profile")
LEASE_S = 0.5
PROGRAM = Path(__file__).parent / "member.py"


async def until(what: Callable[[], Awaitable[bool]], why: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await what():
        assert time.monotonic() < deadline, why
        await asyncio.sleep(0.01)


class Member:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """As kill -9."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


class Cluster:
    """Member processes on one folder, and the stores that they write to."""

    def __init__(self, folder: Path, redis_url: str, olap_url: str) -> None:
        self.settings = Settings(
            data=folder,
            stores=Stores(redis_url=redis_url, clickhouse_url=olap_url),
            events=Events(partitions=PARTITIONS),
            streams=Streams(flows=FLOWS, batch=20, lease_s=LEASE_S),
            features=Features(recent_items=1000, seen_items=20_000),
            metrics=recount.METRICS,
        )
        self.world = wiring.world(self.settings)
        w = self.world
        self.stores = worlds.Stores(folder.name.replace("_", "-"), w.log, w.redis, w.olap, w.documents, w.vectors)  # type: ignore[arg-type]
        self.topic = self.settings.events.behavior_topic
        self._members: list[Member] = []

    def prepare(self) -> Member:
        """A process that has loaded everything and waits for `begin`."""
        s = self.settings
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LEMO_")},
            "LEMO_DATA": str(s.data), "LEMO_STORES_REDIS_URL": str(s.stores.redis_url),
            "LEMO_STORES_CLICKHOUSE_URL": str(s.stores.clickhouse_url), "LEMO_EVENTS_PARTITIONS": str(PARTITIONS),
            "LEMO_STREAMS_FLOWS": ",".join(FLOWS), "LEMO_STREAMS_BATCH": "20", "LEMO_STREAMS_LEASE_S": str(LEASE_S),
            **{f"LEMO_METRICS_{name.upper()}": str(value) for name, value in recount.METRICS},
            "LEMO_FEATURES_RECENT_ITEMS": "1000", "LEMO_FEATURES_SEEN_ITEMS": "20000", "LEMO_LOGS_LEVEL": "ERROR",
        }  # fmt: skip
        member = Member(subprocess.Popen([sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, env=env))
        self._members.append(member)
        return member

    async def send(self, events: Sequence[Any]) -> None:
        """Everything twice, in small appends: the members are at it meanwhile."""
        for k in range(0, len(events), 10):
            part = [behavior_entry(b) for b in events[k : k + 10]]
            await self.world.log.append(self.topic, part)
            await self.world.log.append(self.topic, part[::-1])

    async def owners(self) -> set[bytes]:
        """Members with a partition of any flow; empty while one has none."""
        keys = [f"lemo:lease:{f}:{self.topic}:{p}" for f in FLOWS for p in range(PARTITIONS)]
        found = await self.world.redis.mget(keys)
        return set() if None in found else set(found)

    async def applied(self, timeout_s: float = 60.0) -> bool:
        ends = [(p, await self.world.log.end(self.topic, p)) for p in range(PARTITIONS)]
        last = [Appended(self.topic, p, end - 1) for p, end in ends if end]
        return await wait_applied(self.world.redis, "lemo", FLOWS, last, timeout_s)

    async def close(self) -> None:
        for member in self._members:
            member.kill()
        await self.world.close()


@pytest.fixture
async def cluster(tmp_path: Path, redis_url: str, clickhouse_url: str) -> AsyncIterator[Cluster]:
    opened = Cluster(tmp_path, redis_url, clickhouse_url)
    await recount.keep_secret(opened.world.documents)
    yield opened
    await opened.close()


@pytest.mark.long
async def test_members_killed_stopped_and_woken_change_no_count(cluster: Cluster, redis_server: RedisServer) -> None:
    sent = behaviors(cluster.stores.tenant, now=SystemClock().now())
    quarter = len(sent) // 4
    parts = [sent[k * quarter : (k + 1) * quarter] for k in range(4)]
    first, second, third = (cluster.prepare() for _ in range(3))
    first.begin()
    second.begin()
    await cluster.send(parts[0])
    await until(lambda: shared(cluster, 2), "both have partitions")
    both = await cluster.owners()
    await cluster.send(parts[1])
    first.kill()  # in the middle of its work
    third.begin()
    await until(lambda: shared(cluster, 2, not_only=both), "the third took over from the first")
    await cluster.send(parts[2])
    second.process.send_signal(signal.SIGSTOP)
    await until(lambda: shared(cluster, 1), "the third alone has every partition")
    assert await cluster.applied()
    redis_server.kill()
    redis_server.start()
    second.process.send_signal(signal.SIGCONT)
    await cluster.send(parts[3])
    await until(lambda: shared(cluster, 2), "the second is back")
    assert await cluster.applied()
    log = [e for p in range(PARTITIONS) for e in await cluster.world.log.read(cluster.topic, p, 0, 1_000_000)]
    assert len(log) == 2 * 4 * quarter
    for flow in FLOWS:
        assert await recount.HELD[flow](cluster.stores) == recount.WANTED[flow](log), flow
    assert second.process.poll() is None


async def shared(cluster: Cluster, members: int, not_only: Set[bytes] = frozenset()) -> bool:
    owners = await cluster.owners()
    return len(owners) == members and not (not_only and owners <= not_only)


class Wrapped:
    """A flow in which `before` runs at the beginning of each flush."""

    def __init__(self, flow: Flow, before: Callable[[Batch], None]) -> None:
        self.name, self.topics, self.linger_s = flow.name, flow.topics, flow.linger_s
        self._flow, self._before = flow, before

    async def flush(self, batch: Batch) -> Sequence[Op]:
        self._before(batch)
        return await self._flow.flush(batch)


async def runnable(world: World, flow: str, member: str, before: Callable[[Batch], None]) -> Runnable:
    stores, clock = world.open(), SystemClock()
    made = Wrapped(stores.flow(flow), before)
    leases = Leases(stores.redis, "lemo", flow, member, LEASE_S, clock)
    control = Control(stores.redis, "lemo")
    places = Places(stores.log, made.topics, clock)
    return Runnable(loop_of(stores, made), places, leases, control, 0, stores.close)


@contextmanager
def engine(world: World, member: str, **before: Callable[[Batch], None]) -> Iterator[Engine]:
    """Runs the flows named in `before`."""
    makers = {flow: partial(runnable, world, flow, member, what) for flow, what in before.items()}
    started = Engine(makers, Streams(batch=20, lease_s=LEASE_S), SystemClock())
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, clickhouse_url: str) -> AsyncIterator[World]:
    opened = World(tmp_path, redis_url, clickhouse_url, "hot")
    await opened.feed(entries("hot", opened.stores.tenant))
    yield opened
    await opened.close()


def fine(batch: Batch) -> None:
    """Nothing happens."""


async def behind(world: World, flow: str) -> set[int]:
    """Partitions that the flow has not read to their end."""
    state = loop_of(world.stores, world.stores.flow(flow)).state
    ends = {p: await world.stores.log.end(TOPIC, p) for p in range(PARTITIONS)}
    stands = await state.positions([(TOPIC, p) for p in ends])
    return {p for p, end in ends.items() if stands[TOPIC, p] < end}


async def test_a_flow_that_fails_holds_back_one_partition_and_keeps_its_place(world: World) -> None:
    healed, failed = threading.Event(), threading.Event()

    def bug(batch: Batch) -> None:
        if batch.entries[0].partition == 2 and not healed.is_set():
            failed.set()
            raise ZeroDivisionError("a bug in a flow")

    async def only_that_one() -> bool:
        return await behind(world, "hot") == {2} and not await behind(world, "profile")

    with engine(world, "m", hot=bug, profile=fine) as running:
        await until(only_that_one, "all others are read to their end")
        assert failed.is_set()
        assert running.alive()
        assert await world.held("profile") == await world.wanted("profile")
        healed.set()
        await until(lambda: caught_up(world, "hot"), "the partition goes on from where it stood")
    assert await world.held() == await world.wanted()


async def caught_up(world: World, flow: str) -> bool:
    return not await behind(world, flow)


async def test_a_flow_that_blocks_delays_no_other_and_loses_its_partitions(world: World) -> None:
    blocked, released = threading.Event(), threading.Event()

    def block(batch: Batch) -> None:
        blocked.set()
        released.wait(20)

    with engine(world, "slow", hot=block, profile=fine) as running:
        try:
            await until(lambda: caught_up(world, "profile"), "the other flow is not delayed")
            assert blocked.is_set()
            assert await behind(world, "hot")
            with engine(world, "quick", hot=fine):
                await until(lambda: caught_up(world, "hot"), "another member takes over after the lease")
                assert await world.held() == await world.wanted()
        finally:
            released.set()
        assert running.alive()
    assert await world.held() == await world.wanted()
