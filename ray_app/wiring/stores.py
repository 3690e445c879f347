"""Every store, opened by its URL or embedded in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.clock import Clock, SystemClock
from ray_app.config import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.events.base import EventLog
    from ray_app.registry.registry import Registry
    from ray_app.stores.base import Documents, Vectors
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.olap import Olap
    from ray_app.streams.control import Prefixes
    from ray_app.tasks.queue import Queue


@dataclass(frozen=True)
class World:
    """Every store, opened; connections are made at the first use."""

    settings: Settings
    clock: Clock
    log: EventLog
    documents: Documents
    vectors: Vectors
    redis: Redis
    olap: Olap
    blobs: Blobs
    registry: Registry
    prefixes: Prefixes
    queue: Queue

    async def close(self) -> None:
        await self.log.close()
        await self.documents.close()
        await self.vectors.close()
        await self.olap.close()
        await self.redis.aclose()


def world(settings: Settings, clock: Clock | None = None) -> World:
    """Each store by its URL, or embedded in the data folder; any mixture works. `clock`: the machine's unless said."""
    from ray_app.registry.registry import Registry
    from ray_app.stores import redis as state
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.embedded import addresses
    from ray_app.stores.olap import Olap
    from ray_app.streams.control import Prefixes
    from ray_app.tasks.queue import Queue
    from ray_app.wiring.handlers import HANDLERS

    clock, s = clock or SystemClock(), settings.stores
    found = addresses(settings.data) if not (s.redis_url and s.clickhouse_url) else None
    kept = documents(settings, clock)
    blobs = Blobs(s.blobs_url or settings.data / "blobs", settings.data / "copies")
    redis = state.connect(s.redis_url or (found.redis_url if found else ""))
    olap = Olap(s.clickhouse_url or (found.clickhouse_url if found else ""))
    return World(
        settings, clock, event_log(settings, clock), kept, vectors(settings), redis, olap, blobs,
        Registry(kept, blobs, clock), Prefixes(redis, s.redis_prefix),
        Queue(redis, s.redis_prefix, settings.tasks, clock, HANDLERS),
    )  # fmt: skip


def documents(settings: Settings, clock: Clock) -> Documents:
    if url := settings.stores.mongodb_url:
        from ray_app.stores.mongo import MongoDocuments

        return MongoDocuments(url, clock)
    from ray_app.stores.sqlite import SqliteDocuments

    return SqliteDocuments(settings.data / "documents.db", clock)


def vectors(settings: Settings) -> Vectors:
    if url := settings.stores.milvus_url:
        from ray_app.stores.milvus import MilvusVectors

        return MilvusVectors(url, settings.stores.redis_prefix)
    from ray_app.stores.sqlite_faiss import SqliteVectors

    return SqliteVectors(settings.data / "vectors.db")


def event_log(settings: Settings, clock: Clock) -> EventLog:
    e = settings.events
    if e.kafka_url:
        from ray_app.events.kafka import KafkaLog

        return KafkaLog(e.kafka_url, e.partitions, e.retention_s)
    from ray_app.events.sqlite import SqliteLog

    return SqliteLog(settings.data / "events.db", e.partitions, clock, e.retention_s)
