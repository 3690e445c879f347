"""A flow's state is rebuilt from the log while others write: exact before, at every swap, and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import orjson
import pytest
from msgspec import structs

from ray_app.clock import SystemClock
from ray_app.config import Streams
from ray_app.errors import LemoError
from ray_app.events.base import Entry, partition_of
from ray_app.events.schema import behavior_entry
from ray_app.streams.control import Control, Moved, Prefixes, Wanted, prefix_of
from ray_app.streams.engine import Engine, Runnable
from ray_app.streams.partitions import Leases
from ray_app.streams.places import Places
from ray_app.streams.rewind import Rewind
from ray_app.streams.state import State
from tests.crash import recount
from tests.crash import world as worlds
from tests.crash.events import behaviors, entries
from tests.crash.test_engine import LEASE_S, until
from tests.crash.world import BATCH, PARTITIONS, TOPIC, Member, World

FLOWS = ("hot", "metrics", "profile")


@pytest.fixture(params=FLOWS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, clickhouse_url: str
) -> AsyncIterator[World]:
    opened = World(tmp_path, redis_url, clickhouse_url, request.param)
    await opened.feed(entries(request.param, opened.stores.tenant))
    yield opened
    await opened.close()


@pytest.fixture
def generation(monkeypatch: pytest.MonkeyPatch, world: World) -> Generation:
    return Generation(monkeypatch, world)


class Generation:
    """Members and recounts at one generation of the state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
        self._patch, self._world = monkeypatch, world

    def use(self, generation: int) -> None:
        prefix = prefix_of("lemo", self._world.flow, generation)
        for module in (recount, worlds):
            self._patch.setattr(module, "PREFIX", prefix)

    async def open(self, generation: int) -> Runnable:
        self.use(generation)
        stores, clock = self._world.open(), SystemClock()
        made = stores.flow(self._world.flow)
        loop = worlds.loop_of(stores, made, generation=generation)
        leases = Leases(stores.redis, "lemo", made.name, "m", LEASE_S, clock)
        control = Control(stores.redis, "lemo")
        return Runnable(loop, Places(stores.log, made.topics, clock), leases, control, generation, stores.close)


def rewind(world: World, generation: Generation) -> Rewind:
    return Rewind(world.flow, generation.open, world.stores.redis, "lemo", BATCH)


async def spoil(world: World) -> None:
    """What a bug did to the live state."""
    keys = [k async for k in world.stores.redis.scan_iter(f"lemo:{world.flow}:*")]
    assert len(keys) > 10
    await world.stores.redis.unlink(*keys[: len(keys) // 2])


async def test_a_rewind_mends_what_a_bug_did_and_refuses_the_old_writer(world: World, generation: Generation) -> None:
    old = world.member()
    await old.drain()
    wanted = await world.wanted()
    await spoil(world)
    assert await world.held() != wanted
    progress = [p async for p in rewind(world, generation).rebuild()]
    assert progress[-1].behind == 0
    assert await world.held() == wanted  # of generation 1
    await world.stores.log.append(TOPIC, entries(world.flow, world.stores.tenant)[:5])
    with pytest.raises(Moved):
        await old.drain()
    assert await world.held() == wanted
    prefixes = Prefixes(world.stores.redis, "lemo")
    assert prefixes.of(world.flow) == "lemo"
    await prefixes.refresh()
    assert prefixes.of(world.flow) == f"lemo:{world.flow}.1"
    assert prefixes.of("another") == "lemo"


async def test_what_was_replaced_ends_and_the_next_rewind_is_a_generation_of_its_own(
    world: World, generation: Generation
) -> None:
    await world.member().drain()
    wanted = await world.wanted()
    for n in (1, 2):
        assert [p async for p in rewind(world, generation).rebuild()]
        assert (await Control(world.stores.redis, "lemo").of(world.flow)).generation == n
        assert await world.held() == wanted
    for n in (0, 1):
        generation.use(n)
        pattern = f"{recount.PREFIX}:{world.flow}:*"
        left = [await world.stores.redis.ttl(k) async for k in world.stores.redis.scan_iter(pattern)]
        assert left
        assert all(0 < s <= 60 for s in left)


async def test_a_rewind_that_was_cut_starts_over(world: World, generation: Generation) -> None:
    await world.member().drain()
    wanted = await world.wanted()
    half = rewind(world, generation).rebuild()
    await anext(half)
    await half.aclose()
    assert (await Control(world.stores.redis, "lemo").of(world.flow)).generation == 0
    assert [p async for p in rewind(world, generation).rebuild()]
    assert await world.held() == wanted


async def test_of_two_rewinds_at_once_the_later_one_changes_nothing(world: World, generation: Generation) -> None:
    await world.member().drain()
    wanted = await world.wanted()
    slow = rewind(world, generation).rebuild()
    await anext(slow)
    await world.stores.redis.hset("lemo:streams", f"generation:{world.flow}", "1")  # another was quicker
    with pytest.raises(LemoError, match="another rewind"):
        async for _ in slow:
            pass
    generation.use(0)
    assert await world.held() == wanted


async def test_a_rewind_does_not_begin_while_another_runs(world: World, generation: Generation) -> None:
    """It would remove what the first has counted, and not what the first counts meanwhile."""
    await world.member().drain()
    wanted = await world.wanted()
    first = rewind(world, generation).rebuild()
    await anext(first)
    with pytest.raises(LemoError, match="runs; nothing was changed"):
        await anext(rewind(world, generation).rebuild())
    assert [p async for p in first]
    assert await world.held() == wanted  # of generation 1
    assert not await world.stores.redis.exists(f"lemo:rewinds:{world.flow}")


async def test_it_swaps_while_a_member_goes_on_writing(world: World, generation: Generation) -> None:
    live: Member = world.member()
    await live.drain()
    again = behaviors(world.stores.tenant, 60)
    sent = [behavior_entry(structs.replace(b, event_id=f"later-{b.event_id}")) for b in again]
    done = asyncio.Event()

    async def write() -> None:
        for k in range(0, 60, 3):
            await world.stores.log.append(TOPIC, sent[k : k + 3])
            try:
                await live.drain()
            except Moved:
                break
        done.set()

    async def rebuilt() -> bool:
        return (await Control(world.stores.redis, "lemo").of(world.flow)).generation == 1

    writing = asyncio.create_task(write())
    assert [p async for p in rewind(world, generation).rebuild()]
    await writing
    await until(rebuilt, "the new generation is live")
    after = world.member()  # as every replica opens the flow now
    await after.drain()
    assert await world.held() == await world.wanted()
    assert done.is_set()


async def test_it_swaps_under_a_load_that_never_rests(world: World, generation: Generation) -> None:
    """Whenever a place was read again there is more in each, and the live state has it: the new one would never be
    level with it, unless it is held for a moment."""
    control, live = Control(world.stores.redis, "lemo"), State(world.stores.redis, "lemo", world.flow, 600)
    keys = [next(k for k in map(str, count()) if partition_of(k, PARTITIONS) == p) for p in range(PARTITIONS)]
    body = orjson.loads(behavior_entry(behaviors(world.stores.tenant, 1)[0]).body)
    numbers = count()

    async def applied() -> bool:
        try:
            held = await live.positions([(TOPIC, p) for p in range(PARTITIONS)])
        except Moved:
            return True
        return list(held.values()) == await world.stores.log.ends(TOPIC)

    async def produce(gap: str) -> None:
        if gap == "told":
            ids = [f"later-{next(numbers)}" for _ in keys]
            sent = [Entry(k, orjson.dumps(body | {"event_id": id})) for k, id in zip(keys, ids, strict=True)]
            await world.stores.log.append(TOPIC, sent)
            if not (await control.of(world.flow)).paused:
                await until(applied, "the live state has it")

    async def make() -> Runnable:
        stores = world.open()  # in the thread that uses it
        at = (await Control(stores.redis, "lemo").of(world.flow)).generation
        await stores.close()
        return await generation.open(at)

    async def loaded(at: int) -> Runnable:
        opened = await generation.open(at)
        opened.loop.hook = produce
        return opened

    engine = Engine({world.flow: make}, Streams(batch=BATCH, lease_s=LEASE_S), SystemClock())
    engine.start()
    try:
        await until(applied, "the live state has caught up")
        async with asyncio.timeout(30):
            assert [p async for p in Rewind(world.flow, loaded, world.stores.redis, "lemo", BATCH).rebuild()]
        assert await control.of(world.flow) == Wanted(paused=False, generation=1)
        live = State(world.stores.redis, prefix_of("lemo", world.flow, 1), world.flow, 600)
        await until(applied, "the new generation goes on")
    finally:
        await asyncio.to_thread(engine.stop)
    assert await world.held() == await world.wanted()


async def test_a_hold_ends_by_itself_and_pauses_no_other_flow(world: World) -> None:
    control = Control(world.stores.redis, "lemo")
    await control.hold(world.flow, 0.2)
    assert (await control.of(world.flow)).paused
    assert not (await control.of("another")).paused

    async def goes_on() -> bool:
        return not (await control.of(world.flow)).paused

    await until(goes_on, "whoever held it was killed", 2)
