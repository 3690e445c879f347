"""Events of stores become tasks: each once, of the store's tenant, in the queue of its type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ray_app.catalog.store import Store, Stores
from ray_app.clock import FixedClock
from ray_app.config import Tasks
from ray_app.events.base import Logged, Topics
from ray_app.flows.neural import Neural
from ray_app.neural.event import NeuralEvent, read_entry, task_id
from ray_app.neural.tasks import HANDLERS
from ray_app.stores.memory import MemoryDocuments
from ray_app.streams.flow import Batch
from ray_app.tasks.queue import Queue
from ray_app.tasks.task import State
from tests.unit.make import NOW

if TYPE_CHECKING:
    from redis.asyncio import Redis

TOPIC = "neural-events"


def entry(position: int, body: object) -> Logged:
    return Logged(TOPIC, 0, position, NOW, "s", body if isinstance(body, bytes) else orjson.dumps(body))


hurried: list[tuple[str, list[str], int]] = []


def one(id: str, store: str = "s1", **more: Any) -> dict[str, Any]:
    return {"event_id": id, "event_type": "staff.scheduled", "store_id": store, **more}


async def flow_of(redis: Redis, documents: MemoryDocuments, clock: FixedClock, **settings: int) -> tuple[Neural, Queue]:
    stores, queue = Stores(documents, redis, "p", clock), Queue(redis, "p", Tasks(**settings), clock, HANDLERS)
    await stores.put(Store("s1", "a"))
    await stores.put(Store("s2", "b"))
    hurried.clear()

    async def hurry(tenant: str, those: Sequence[NeuralEvent]) -> None:
        hurried.append((tenant, [e.event_id for e in those], len(await queue.find(set(State)))))

    return Neural(Topics((TOPIC,)), read_entry, stores.among, hurry, queue), queue


async def test_each_event_is_one_task_of_its_stores_tenant(
    redis: Redis, documents: MemoryDocuments, clock: FixedClock
) -> None:
    flow, queue = await flow_of(redis, documents, clock)
    order = {"event_type": "order.created", "data": {"order_id": "o"}}
    batch = Batch([entry(k, b) for k, b in enumerate([one("x"), {**one("y", "s2"), **order}, one("x")])])
    for _ in range(2):  # a batch that comes again
        await flow.flush(batch)
    found = {t.id: (t.tenant, t.queue) for t in await queue.find(set(State))}
    assert found == {task_id("a", "x"): ("a", "default"), task_id("b", "y"): ("b", "high_priority")}
    assert batch.bad == []


async def test_what_cannot_become_a_task_is_a_dead_letter(
    redis: Redis, documents: MemoryDocuments, clock: FixedClock
) -> None:
    flow, queue = await flow_of(redis, documents, clock, max_payload_bytes=1024)
    large = one("large", data={"text": "x" * 2000})
    sent: list[object] = [one("good"), one("lost", "nowhere"), b"{", one("bad", priority=99), large, one("last")]
    batch = Batch([entry(k, b) for k, b in enumerate(sent)])
    await flow.flush(batch)
    why = {bad.entry.position: bad.why for bad in batch.bad}
    assert sorted(why) == [1, 2, 3, 4]
    assert "nowhere" in why[1]
    assert "PUT /api/v1/stores" in why[1]
    assert "priority" in why[3]
    assert "1024" in why[4]
    assert {t.id for t in await queue.find(set(State))} == {task_id("a", "good"), task_id("a", "last")}


async def test_alerts_are_not_kept_waiting(redis: Redis, documents: MemoryDocuments, clock: FixedClock) -> None:
    flow, _ = await flow_of(redis, documents, clock)
    alert = {"event_type": "inventory.alert", "data": {"dish_id": "d", "quantity": 0}}
    sent = [one("x"), {**one("y"), **alert}, {**one("z", "s2"), **alert}, {**one("w"), **alert}]
    await flow.flush(Batch([entry(k, b) for k, b in enumerate(sent)]))
    assert hurried == [("a", ["y", "w"], 0), ("b", ["z"], 0)]
