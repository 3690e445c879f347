"""A world of a store, with what the unit tests have of it in memory and the rest real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_app.catalog.store import Store, Stores
from ray_app.clock import FixedClock
from ray_app.config import Settings
from ray_app.events.memory import MemoryLog
from ray_app.neural.event import NeuralEvent, parse
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.olap import Olap
from ray_app.stores.sqlite_faiss import SqliteVectors
from tests.unit.make import NOW, TENANT
from tests.written import read_behavior

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.types import Behavior

STORE = "store_1"


@dataclass
class World:
    settings: Settings
    clock: FixedClock
    log: MemoryLog
    documents: Any
    vectors: Any
    redis: Redis
    olap: Any = None

    def chain(self) -> Stores:
        return Stores(self.documents, self.redis, "lemo", self.clock)

    async def behaviors(self) -> list[Behavior]:
        """Everything in the log, by id."""
        parts = [await self.log.read("behavior-events", p, 0, 10_000) for p in range(4)]
        return sorted((read_behavior(e.body) for part in parts for e in part), key=lambda b: b.event_id)


@dataclass
class Here:
    """A run of a task in the test itself."""

    stores: World
    tenant: str = TENANT
    id: str = "task-1"
    attempt: int = 1
    trace: str = ""
    told: list[Any] = field(default_factory=list)

    async def progress(self, done: int, total: int = 0, note: str = "") -> None:
        self.told.append((done, total))

    async def log(self, line: str) -> None:
        self.told.append(line)

    async def still_mine(self) -> None:
        """It always is."""


@pytest.fixture
async def world(clock: FixedClock, redis: Redis, tmp_path: Path) -> AsyncIterator[World]:
    vectors = SqliteVectors(tmp_path / "vectors.db")
    made = World(Settings(), clock, MemoryLog(4, clock), MemoryDocuments(clock), vectors, redis)
    await made.chain().put(Store(STORE, TENANT))
    yield made
    await vectors.close()


@pytest.fixture
async def analytic(world: World, clickhouse_url: str) -> AsyncIterator[World]:
    world.olap = Olap(clickhouse_url)
    yield world
    await world.olap.close()


def event(type: str, data: dict[str, Any], id: str = "e1", at: int = NOW, **more: Any) -> NeuralEvent:
    raw = {"event_id": id, "event_type": type, "event_source": "pos_system", "store_id": STORE, "data": data}
    return parse({**raw, "occurred_at": at, **more}, NOW)
