"""A process that ends between any two steps of an event, and the run after it: together they leave what one whole run
leaves, and nothing counts twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_app.catalog import changes, sold_out
from ray_app.catalog.store import Store
from ray_app.clock import FixedClock
from ray_app.config import Settings
from ray_app.events.memory import MemoryLog
from ray_app.neural import orders
from ray_app.neural.event import NeuralEvent
from ray_app.neural.process import KIND, collection, hurry, process
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.redis import connect
from ray_app.stores.sqlite_faiss import SqliteVectors
from tests.crash.world import Abort
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import STORE, World, event

if TYPE_CHECKING:
    from redis.asyncio import Redis

WRITES = ("upsert", "next_number", "append", "xadd")
LINES = [{"dish_id": "soup", "price": 2}, {"dish_id": "tea"}]
EVENTS = {
    "order": event("order.created", {"order_id": "o", "customer_id": "anna", "lines": LINES, "status": "paid"}),
    "payment": event("payment.completed", {"order_id": "before"}),
    "dish": event("dish.updated", {"dish_id": "soup", "name": "Soup", "available": True}),
    "alert": event("inventory.alert", {"dish_id": "soup", "quantity": 0}),
    "staff": event("staff.scheduled", {"staff_id": "kim"}),
}
BEFORE = event("order.created", {"order_id": "before", "customer_id": "ben", "lines": LINES}, "e0", NOW - 5)


class Ending:
    """A store of a process that ends at its `at`-th write of all stores, before it or behind it."""

    def __init__(self, store: Any, count: list[int], at: int, behind: bool) -> None:
        self._store, self._count, self._at, self._behind = store, count, at, behind

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        if name not in WRITES:
            return call

        async def written(*args: Any, **named: Any) -> Any:
            self._count[0] += 1
            if self._count[0] == self._at and not self._behind:
                raise Abort
            answer = await call(*args, **named)
            if self._count[0] == self._at:
                raise Abort
            return answer

        return written


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def mine() -> None:
    """It always is."""


async def hurried(world: World, tenant: str, one: NeuralEvent, check: Any) -> dict[str, Any]:
    """By the flow first, then by its task."""
    await hurry(world, tenant, [one])
    return await process(world, tenant, one, check)


async def fresh(folder: Path, redis: Redis) -> World:
    await redis.flushall()
    clock = FixedClock(NOW)
    folder.mkdir()
    vectors = SqliteVectors(folder / "vectors.db")
    world = World(Settings(), clock, MemoryLog(4, clock), MemoryDocuments(clock), vectors, redis)
    await world.chain().put(Store(STORE, TENANT))
    await process(world, TENANT, BEFORE, mine)
    return world


async def left(world: World) -> dict[str, Any]:
    """What stands after all, without row numbers, of which a crash may leave one out."""
    kept = {
        d.id: {k: v for k, v in d.body.items() if k != "row"} | {"version": d.version}
        for kind in (KIND, orders.KIND, orders.PARTS, sold_out.KIND)
        for d in await world.documents.find(TENANT, kind)
    }
    found = [f.document.id for f in await collection(world, TENANT).search("order created staff dish", 50)]
    feed: Any = await world.redis.xrange(changes.key("lemo", TENANT))
    items = [await world.log.read("items-ingest", p, 0, 100) for p in range(4)]
    return {
        "kept": kept,
        "found": sorted(found),
        "newest": sorted(f.document.id for f in await collection(world, TENANT).newest(50)),
        "behaviors": {b.event_id: b for b in await world.behaviors()},
        "told": {changes.decode(fields).sold_out for _, fields in feed},
        "items": {e.body for part in items for e in part},
    }


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("name", [*EVENTS, "hurried"])
async def test_a_run_after_a_crash_at_any_write_ends_as_one_whole_run(
    name: str, behind: bool, tmp_path: Path, redis: Redis
) -> None:
    one: NeuralEvent = EVENTS.get(name, EVENTS["alert"])
    begin = hurried if name == "hurried" else process
    whole = await fresh(tmp_path / "whole", redis)
    answer = await process(whole, TENANT, one, mine)
    wanted, at = await left(whole), 0
    while True:
        at += 1
        world, count = await fresh(tmp_path / str(at), redis), [0]
        stores = {n: Ending(getattr(world, n), count, at, behind) for n in ("documents", "log", "vectors", "redis")}
        try:
            await begin(replace(world, **stores), TENANT, one, mine)
        except Abort:
            again = await begin(world, TENANT, one, mine)
            assert again["duplicate"] or again == answer, f"write {at}"
            assert await left(world) == wanted, f"write {at}"
            continue
        finally:
            await world.vectors.close()
        break
    assert at >= 6  # its writes, each of which was the last once
    await whole.vectors.close()
