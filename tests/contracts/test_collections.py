"""Events and collections are kept and found alike on embedded and on served stores."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ray_app.catalog import sold_out
from ray_app.catalog.store import Store
from ray_app.clock import FixedClock
from ray_app.config import Settings
from ray_app.events.memory import MemoryLog
from ray_app.neural import batch, orders
from ray_app.neural.process import collection, hurry, process
from ray_app.stores.base import Where
from ray_app.stores.milvus import MilvusVectors
from ray_app.stores.mongo import MongoDocuments
from ray_app.stores.redis import connect
from ray_app.stores.sqlite import SqliteDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import STORE, World, event


@pytest.fixture(params=["embedded", "served"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    clock, documents, vectors = FixedClock(NOW), None, None
    if request.param == "served":
        documents = MongoDocuments(request.getfixturevalue("mongodb_url"), clock)
        vectors = MilvusVectors(request.getfixturevalue("milvus_url"), f"lemo-{uuid.uuid4().hex[:8]}")
    documents = documents or SqliteDocuments(tmp_path / "documents.db", clock)
    vectors = vectors or SqliteVectors(tmp_path / "vectors.db")
    made = World(Settings(), clock, MemoryLog(4, clock), documents, vectors, connect(redis_url))
    await made.chain().put(Store(STORE, TENANT, "Corner", "Europe/London", {"seats": 4}))
    yield made
    await documents.close()
    await vectors.close()
    await made.redis.aclose()


async def mine() -> None:
    """It always is."""


async def test_events_are_kept_and_found(world: World) -> None:
    assert await collection(world, TENANT).search("nothing is there", 3) == []
    lines: list[dict[str, Any]] = [{"dish_id": "soup", "price": 2}, {"dish_id": "tea"}]
    sent = [
        event("order.created", {"order_id": "o", "customer_id": "anna", "lines": lines}, "e1", NOW - 3),
        event("payment.completed", {"order_id": "o"}, "e2", NOW - 2),
        event("inventory.alert", {"dish_id": "soup", "quantity": 0}, "e3", NOW - 1),
        *(event("note.made", {"text": f"word{k} in a note"}, f"n{k:02d}", NOW) for k in range(20)),
    ]
    await hurry(world, TENANT, [sent[2]])
    for one in sent:
        assert not (await process(world, TENANT, one, mine))["duplicate"]
        assert (await process(world, TENANT, one, mine))["duplicate"]
    kept = collection(world, TENANT)
    assert [f.document.id for f in await kept.search("word7 in a note", 1)] == ["n07"]
    where = [Where("event_type", "in", ["order.created", "payment.completed"]), Where("at", "gte", NOW - 2)]
    assert [f.document.id for f in await kept.search("word7 in a note", 5, where)] == ["e2"]
    assert [f.document.id for f in await kept.newest(2)] == ["n19", "n18"]
    assert {b.type for b in await world.behaviors()} == {"cart", "purchase"}
    assert [c.item_id async for c in sold_out.read(world.documents, TENANT)] == ["soup"]
    (order,) = await world.documents.find(TENANT, orders.KIND)
    assert (order.body["paid_at"], order.body["customer_id"]) == (NOW - 2, "anna")


async def test_orders_of_a_period_are_indexed(world: World) -> None:
    for k in range(4):
        order = event("order.created", {"order_id": f"o{k}", "lines": [{"dish_id": f"dish{k}"}]}, f"e{k}", NOW - k)
        await process(world, TENANT, order, mine)

    async def tell(done: int, total: int) -> None:
        """Nobody looks."""

    found = await batch.put_period(world, TENANT, "run", STORE, (NOW - 2, NOW), tell)
    assert (found.indexed, found.failed) == (2, [])
    hits = await batch.collection(world.documents, world.vectors, TENANT, "orders").search("dish2", 5)
    assert [f.document.body["data"]["order_id"] for f in hits] == ["o2", "o1"]
