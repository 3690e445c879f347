"""The only place that chooses: settings -> stores, flows, use cases, and the Serve application.

Heavy libraries load where they are used; importing this module imports none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app import config, logs
from ray_app.clock import Clock, SystemClock
from ray_app.config import Settings
from ray_app.errors import InvalidSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.events.base import EventLog
    from ray_app.registry.registry import Registry
    from ray_app.serving.app import App
    from ray_app.stores.base import Documents, Vectors
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.olap import Olap
    from ray_app.streams.engine import Engine


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

    async def close(self) -> None:
        await self.log.close()
        await self.documents.close()
        await self.vectors.close()
        await self.olap.close()
        await self.redis.aclose()


def world(settings: Settings) -> World:
    """Stores by URL, or embedded in the data folder. Raises InvalidSettings for a served store without an adapter."""
    from ray_app.events.sqlite import SqliteLog
    from ray_app.registry.registry import Registry
    from ray_app.stores import redis as state
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.embedded import addresses
    from ray_app.stores.olap import Olap
    from ray_app.stores.sqlite import SqliteDocuments
    from ray_app.stores.sqlite_faiss import SqliteVectors

    _refuse_served(settings)
    clock, data, s = SystemClock(), settings.data, settings.stores
    found = addresses(data) if not (s.redis_url and s.clickhouse_url) else None
    documents = SqliteDocuments(data / "documents.db", clock)
    blobs = Blobs(s.blobs_url or data / "blobs")
    return World(
        settings,
        clock,
        SqliteLog(data / "events.db", settings.events.partitions, clock, settings.events.retention_s),
        documents,
        SqliteVectors(data / "vectors.db"),
        state.connect(s.redis_url or (found.redis_url if found else "")),
        Olap(s.clickhouse_url or (found.clickhouse_url if found else "")),
        blobs,
        Registry(documents, blobs, clock),
    )


def _refuse_served(settings: Settings) -> None:
    for name, url in {
        "stores.mongodb_url": settings.stores.mongodb_url,
        "stores.milvus_url": settings.stores.milvus_url,
        "events.kafka_url": settings.events.kafka_url,
    }.items():
        if url:
            raise InvalidSettings(f"setting {name} is {url!r}, but this version has only the embedded store. Unset it.")


@asynccontextmanager
async def open_world(settings: Settings | None = None) -> AsyncIterator[World]:
    """The stores of the running cluster; without one (Ray says so) those of the settings."""
    from ray_app import cluster

    opened = world(settings or await asyncio.to_thread(cluster.settings))
    try:
        yield opened
    finally:
        await opened.close()


def build(args: dict[str, Any]) -> Any:
    """The Serve application `recommender`; `import_path` of serve_config.yaml."""
    from ray_app.serving.deployments import gateway
    from ray_app.streams.deployments import streams
    from ray_app.tasks.deployments import steward

    settings = config.load(file=Path(args["config"]) if args.get("config") else None)
    ensure_actors(settings)
    return gateway().bind(
        partial(open_app, settings),
        streams.bind(partial(engine, settings)),
        steward.bind(partial(ensure_actors, settings)),
    )


def ensure_actors(settings: Settings) -> list[Any]:
    """The detached actors, made where absent."""
    from ray_app import cluster
    from ray_app.stores.actors import LocalStores
    from ray_app.tasks.actors import Scheduler

    return [
        cluster.detached(LocalStores, cluster.STORES, settings, max_concurrency=4),
        cluster.detached(Scheduler, cluster.SCHEDULER),
    ]
