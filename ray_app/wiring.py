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
from ray_app.clock import Clock, SystemClock, new_id
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
    from ray_app.streams.engine import Engine, Runnable
    from ray_app.streams.flow import Flow


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

    refuse_served(settings)
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


def refuse_served(settings: Settings) -> None:
    """Raises InvalidSettings for a URL of a store that this version has no adapter for."""
    for name, url in {
        "stores.mongodb_url": settings.stores.mongodb_url,
        "stores.milvus_url": settings.stores.milvus_url,
        "events.kafka_url": settings.events.kafka_url,
    }.items():
        if url:
            raise InvalidSettings(f"setting {name} is {url!r}, but this version has only the embedded store. Unset it.")


@asynccontextmanager
async def open_world(settings: Settings | None = None) -> AsyncIterator[World]:
    """The stores of `settings`; without them those of the running cluster, which jobs ask for."""
    from ray_app import cluster

    opened = world(await asyncio.to_thread(cluster.settings) if settings is None else settings)
    try:
        yield opened
    finally:
        await opened.close()


async def open_app(settings: Settings) -> App:
    """Everything that a gateway replica answers with; its background tasks run until `close`."""
    from ray_app.access.keys import Keys, demo_key
    from ray_app.catalog.scenario import Scenarios
    from ray_app.catalog.shelves import Shelves
    from ray_app.features.boards import Boards
    from ray_app.recommend import Parts, Recommender
    from ray_app.recommend.request_id import RequestIds
    from ray_app.registry.watch import Live
    from ray_app.serving.app import App
    from ray_app.serving.background import Background
    from ray_app.serving.slates import Slates

    logs.start(settings.logs.level)
    w = world(settings)
    prefix = settings.stores.redis_prefix
    keys, live = Keys(w.documents, w.clock), Live(w.registry)
    await demo_key(keys, settings.data)
    shelves = Shelves(w.documents, w.vectors, w.redis, prefix, lambda tenant: live.of(tenant).space())
    boards = Boards(w.redis, prefix, settings.features)
    scenarios = Scenarios(w.documents, w.clock)
    ids = RequestIds(await keys.secret("request_id"))
    parts = Parts(shelves, boards, scenarios, live.of, w.redis, prefix, w.clock, ids, new_id)
    background = Background(w.clock, keys, live, shelves, boards)
    await background.start()
    slates = Slates(w.log, settings.events.slate_topic)

    async def close() -> None:
        await background.stop()
        await slates.close()
        await w.close()

    return App(
        settings, w.clock, w.log, w.documents, w.redis, shelves, scenarios, Recommender(parts), keys, slates,
        partial(check, w), close,
    )  # fmt: skip


async def check(w: World) -> dict[str, str]:
    """Parts that are away, and why: one small call to each store."""
    calls: dict[str, Any] = {
        "state": w.redis.ping(),
        "documents": w.documents.count("system", "keys"),
        "event log": w.log.end(w.settings.events.behavior_topic, 0),
        "analytics": w.olap.query("SELECT 1"),
    }
    answers = await asyncio.gather(*(asyncio.wait_for(c, 2.0) for c in calls.values()), return_exceptions=True)
    away = {n: str(a) or type(a).__name__ for n, a in zip(calls, answers, strict=True) if isinstance(a, BaseException)}
    return {n: why[:300] for n, why in away.items()}


def engine(settings: Settings) -> Engine:
    """The engine with one maker for each flow of the settings; each opens its own connections in its own thread."""
    from ray_app.streams.engine import Engine

    logs.start(settings.logs.level)
    clock, member = SystemClock(), new_id()
    makers: dict[str, Callable[[], Runnable]] = {
        name: partial(_runnable, settings, name, member) for name in settings.streams.flows
    }
    return Engine(makers, settings.streams, clock)


def _runnable(settings: Settings, name: str, member: str) -> Runnable:
    from ray_app.streams.engine import Runnable
    from ray_app.streams.flow import Loop
    from ray_app.streams.partitions import Leases
    from ray_app.streams.state import State

    w = world(settings)
    prefix, s = settings.stores.redis_prefix, settings.streams
    group = s.group if name == "items" else f"{s.group}.{name}"
    loop = Loop(flow(w, name), w.log, State(w.redis, prefix, name, s.repeat_window_s), group)
    return Runnable(loop, Leases(w.redis, prefix, name, member, s.lease_s, w.clock), w.close)


def flow(w: World, name: str) -> Flow:
    """The flow of this name. Raises InvalidSettings, naming the known ones."""
    from ray_app.flows.behaviors import Behaviors
    from ray_app.flows.hot import Hot
    from ray_app.flows.items import Items
    from ray_app.flows.profile import ProfileFlow
    from ray_app.flows.slates import Slates
    from ray_app.registry.watch import EMBEDDER, Live

    events, prefix = w.settings.events, w.settings.stores.redis_prefix
    live = Live(w.registry, (EMBEDDER,))
    flows: dict[str, Callable[[], Flow]] = {
        "items": lambda: Items(events.item_topic, w.settings.stores, w.documents, w.vectors, live.embedder_of),
        "behaviors": lambda: Behaviors(events.behavior_topic, w.olap),
        "slates": lambda: Slates(events.slate_topic, w.olap),
        "hot": lambda: Hot(events.behavior_topic, prefix, w.settings.features),
        "profile": lambda: ProfileFlow(events.behavior_topic, prefix, w.settings.features),
    }
    if name not in flows:
        raise InvalidSettings(f"setting streams.flows names {name!r}. Known: {', '.join(flows)}", key="streams.flows")
    return flows[name]()


def build(args: dict[str, Any]) -> Any:
    """The Serve application `recommender`; `import_path` of serve_config.yaml."""
    from ray_app import cluster
    from ray_app.serving.deployments import gateway
    from ray_app.streams.deployments import streams
    from ray_app.tasks.deployments import steward

    settings = config.load(file=Path(args["config"]) if args.get("config") else None)
    refuse_served(settings)
    cluster.wait_started(ensure_actors(settings))
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
