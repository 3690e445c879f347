"""The only place that chooses: settings -> stores, flows, use cases, and the Serve application.

Heavy libraries load where they are used; importing this module imports none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app import config, logs
from ray_app.clock import Clock, SystemClock, new_id
from ray_app.config import Settings
from ray_app.errors import InvalidSettings, Unavailable
from ray_app.wiring.schedules import scheduler, schedules_of
from ray_app.wiring.stores import World, documents, event_log, vectors, world

if TYPE_CHECKING:
    from ray_app.events.base import Topics
    from ray_app.operations.check import Report
    from ray_app.operations.models import Models
    from ray_app.operations.pool import Pool
    from ray_app.recommend.request_id import Shown
    from ray_app.serving.app import App
    from ray_app.serving.background import Background
    from ray_app.streams.engine import Engine, Runnable
    from ray_app.streams.flow import Flow
    from ray_app.streams.letters import Letters

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_world(settings: Settings | None = None) -> AsyncIterator[World]:
    """The stores of `settings`; without them those of the running cluster, which jobs ask for."""
    from ray_app import cluster

    opened = world(await asyncio.to_thread(cluster.settings) if settings is None else settings)
    try:
        yield opened
    finally:
        await opened.close()


def background(w: World, names: Iterable[str], move: Callable[[Any], Any] | None = None) -> Background:
    """What a replica knows of every tenant, and keeps current; `names`: the models of it; `move`: its rankers."""
    from ray_app.access.keys import Keys
    from ray_app.catalog.shelves import Shelves
    from ray_app.features.boards import Boards
    from ray_app.registry.watch import Live
    from ray_app.serving.background import Background

    keys = Keys(w.documents, w.clock)
    live = Live(w.registry, names, move)
    prefix = w.settings.stores.redis_prefix
    of = (lambda tenant: live.of(tenant).space(), lambda tenant: live.of(tenant).epoch)
    shelves = Shelves(w.documents, w.vectors, w.redis, prefix, *of)
    boards = Boards(w.redis, partial(w.prefixes.of, "hot"), w.settings.features)
    return Background(w.clock, keys, live, shelves, boards, w.prefixes)


async def open_app(settings: Settings, clock: Clock | None = None, **stages: Callable[[Any], Awaitable[Any]]) -> App:
    """Everything that a gateway replica answers with; its background tasks run until `close`. `clock`: the machine's
    unless said. `stages`: how each is asked in another process; none: they run in this one."""
    from ray_app.access.keys import demo_key
    from ray_app.analytics.tasks import History
    from ray_app.catalog.rule import Rules
    from ray_app.catalog.scenario import Scenarios
    from ray_app.recommend import Parts, Recommender
    from ray_app.recommend.graph import Graph
    from ray_app.recommend.request_id import RequestIds
    from ray_app.recommend.stages import INLINE
    from ray_app.registry.watch import NAMES, SHADOW
    from ray_app.serving.app import App
    from ray_app.serving.slates import Slates
    from ray_app.serving.traces import Traces
    from ray_app.stores.redis import refuse_cluster

    logs.start(settings.logs.level)
    w = world(settings, clock)
    await refuse_cluster(w.redis)
    known = background(w, (*NAMES, SHADOW))
    if settings.embedded():  # a readable key is for one machine
        await demo_key(known.keys, settings.data)
    scenarios, rules = Scenarios(w.documents, w.clock), Rules(w.documents, w.clock)
    ids = RequestIds(await known.keys.secret("request_id"))
    placed, profiles = Graph(**stages, clock=w.clock) if stages else INLINE, partial(w.prefixes.of, "profile")
    parts = Parts(
        w.documents, known.shelves, known.boards, scenarios, rules, known.live.of, w.redis, profiles, w.clock, ids,
        new_id, stages=placed,
    )  # fmt: skip
    await known.start()
    slates = Slates(w.log, settings.events.slate_topic)
    traces = Traces(w.redis, settings.stores.redis_prefix, w.clock, settings.serving)

    async def close() -> None:
        await known.stop()
        await slates.close()
        await traces.close()
        await w.close()

    return App(
        settings, w.clock, w.log, w.documents, w.vectors, w.redis, known.shelves, scenarios, rules, Recommender(parts),
        known.keys, slates, traces, w.prefixes, pool(w), letters(w), models(w),
        lambda tenant: known.live.of(tenant).space(), schedules_of(w), w.queue, History(w.olap), partial(check, w),
        close,
    )  # fmt: skip


async def open_stage(settings: Settings, models_alone: bool = False) -> tuple[Any, Callable[[], Awaitable[None]]]:
    """What a replica of one stage works on, and how it is closed. `models_alone`: rankers without a catalogue. The
    gateway asks the shadow itself, behind the answer's ranking, so no stage loads it."""
    from ray_app.recommend.station import ModelServer, Station
    from ray_app.registry.watch import EMBEDDER, OF_KIND, RANKER, RECALLERS
    from ray_app.stores.redis import refuse_cluster

    logs.start(settings.logs.level)
    w = world(settings)
    await refuse_cluster(w.redis)
    move: Callable[[Any], Any] | None = None
    if models_alone and settings.serving.rank_gpus:
        from ray_app.models.on_device import to_gpu

        move = to_gpu()
    known = background(w, (RANKER, *OF_KIND.values()) if models_alone else (EMBEDDER, *RECALLERS), move)
    await known.start(models_alone)

    async def close() -> None:
        await known.stop()
        await w.close()

    station = Station(w.clock, known.live.of, known.shelves, known.boards)
    return ModelServer(known.live) if models_alone else station, close


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


async def inspect(settings: Settings, serve_config: Any) -> Report:
    """What `lemo check` finds. Each store is opened alone, so that one which cannot be hides no other."""
    from ray_app.operations import check_stores
    from ray_app.operations.check_redis import RedisCheck
    from ray_app.stores import redis as state
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.embedded import DataLock, addresses
    from ray_app.stores.olap import Olap

    clock, data, s = SystemClock(), settings.data, settings.stores
    openers: dict[str, Callable[[], Any]] = {
        "documents": partial(documents, settings, clock),
        "state": lambda: RedisCheck(state.connect(s.redis_url or addresses(data).redis_url), s.redis_url),
        "vectors": partial(vectors, settings),
        "analytics": lambda: Olap(s.clickhouse_url or addresses(data).clickhouse_url),
        "event log": partial(event_log, settings, clock),
        "blobs": lambda: Blobs(s.blobs_url or data / "blobs"),
    }
    return await check_stores.inspect(settings, DataLock(data).held(), openers, serve_config)


def engine(settings: Settings) -> Engine:
    """The engine with one maker for each flow of the settings; each opens its own connections in its own thread."""
    from ray_app.streams.engine import Engine

    logs.start(settings.logs.level)
    clock, member = SystemClock(), new_id()
    makers: dict[str, Callable[[], Awaitable[Runnable]]] = {
        name: partial(runnable, settings, name, member) for name in settings.streams.flows
    }
    return Engine(makers, settings.streams, clock)


async def runnable(settings: Settings, name: str, member: str, generation: int | None = None) -> Runnable:
    """A flow with connections of its own, at `generation` of its state or at the live one."""
    from ray_app.stores.redis import refuse_cluster
    from ray_app.streams.control import Control, prefix_of
    from ray_app.streams.engine import Runnable
    from ray_app.streams.flow import Loop
    from ray_app.streams.partitions import Leases
    from ray_app.streams.places import Places
    from ray_app.streams.state import State

    w = world(settings)
    prefix, s = settings.stores.redis_prefix, settings.streams
    control = Control(w.redis, prefix)
    try:
        await refuse_cluster(w.redis)
        if generation is None:
            generation = (await control.of(name)).generation
    except BaseException:  # it is tried again, with other connections
        await w.close()
        raise
    kept = prefix_of(prefix, name, generation)
    made = flow(w, name, kept)
    state = State(w.redis, kept, name, s.repeat_window_s)
    loop = Loop(made, w.log, state, group_of(settings, name), generation=generation)
    leases = Leases(w.redis, prefix, name, member, s.lease_s, w.clock)
    return Runnable(loop, Places(w.log, made.topics, w.clock), leases, control, generation, w.close)


def pool(w: World) -> Pool:
    """What operators see of the flows and change in them."""
    from ray_app.operations.pool import Pool

    prefix = w.settings.stores.redis_prefix
    topics: dict[str, Topics] = {name: flow(w, name, prefix).topics for name in w.settings.streams.flows}
    open_at = partial(runnable, w.settings, member=new_id())
    return Pool(w.log, w.redis, prefix, topics, w.clock, lambda name, at: open_at(name, generation=at))


def letters(w: World) -> Letters:
    from ray_app.streams.letters import Letters

    return Letters(w.log, w.redis, w.settings.stores.redis_prefix)


def models(w: World) -> Models:
    from ray_app.operations.models import Models

    return Models(w.registry, w.olap, w.clock)


def group_of(settings: Settings, name: str) -> str:
    """The consumer group under which lag tools see the flow."""
    return settings.streams.group if name == "items" else f"{settings.streams.group}.{name}"


def flow(w: World, name: str, prefix: str) -> Flow:
    """The flow of this name; `prefix` is that of its state's keys. Raises InvalidSettings, naming the known ones."""
    from ray_app.catalog.store import Stores
    from ray_app.events.base import Topics
    from ray_app.flows.behaviors import Behaviors
    from ray_app.flows.hot import Hot
    from ray_app.flows.items import Items
    from ray_app.flows.metrics import Metrics
    from ray_app.flows.neural import Neural
    from ray_app.flows.profile import ProfileFlow
    from ray_app.flows.slates import Slates
    from ray_app.flows.tasks import Tasks
    from ray_app.neural.event import read_entry
    from ray_app.neural.process import hurry
    from ray_app.registry.watch import EMBEDDER, Live

    events, features = w.settings.events, w.settings.features
    live = Live(w.registry, (EMBEDDER,))
    stores = Stores(w.documents, w.redis, w.settings.stores.redis_prefix, w.clock)
    tracked = Topics((events.behavior_topic,))
    flows: dict[str, Callable[[], Flow]] = {
        "items": lambda: Items(w.settings, w.documents, w.vectors, live.embedder_of),
        "behaviors": lambda: Behaviors(tracked, w.olap),
        "slates": lambda: Slates(Topics((events.slate_topic,)), w.olap),
        "hot": lambda: Hot(tracked, prefix, features),
        "metrics": lambda: Metrics(tracked, prefix, w.settings.metrics, partial(request_ids, w)),
        "profile": lambda: ProfileFlow(tracked, prefix, features),
        "neural": lambda: Neural(Topics((events.neural_topic,)), read_entry, stores.among, partial(hurry, w), w.queue),
        "tasks": lambda: Tasks(Topics((events.task_topic,)), w.olap),
    }
    if name not in flows:
        raise InvalidSettings(f"setting streams.flows names {name!r}. Known: {', '.join(flows)}", key="streams.flows")
    return flows[name]()


async def request_ids(w: World) -> Callable[[str], Shown | None]:
    """What a request id says, if it is one of ours."""
    from ray_app.access.keys import Keys
    from ray_app.recommend.request_id import RequestIds

    return RequestIds(await Keys(w.documents, w.clock).secret("request_id")).read


def build(args: dict[str, Any]) -> Any:
    """The Serve application `recommender`; `import_path` of serve_config.yaml."""
    from ray_app import cluster
    from ray_app.serving.deployments import gateway, stages
    from ray_app.streams.deployments import streams
    from ray_app.tasks.deployments import steward, workers
    from ray_app.tasks.pools import pools
    from ray_app.wiring.tasks import crew

    settings = config.load(file=Path(args["config"]) if args.get("config") else None)
    cluster.end_actor(cluster.SCHEDULER)  # one of an earlier deployment has its settings and its code
    cluster.wait_started(ensure_actors(settings))
    asyncio.run(check_tables(settings))
    apart = settings.serving.placement == "graph"
    return gateway().bind(
        partial(open_app, settings),
        streams.bind(partial(engine, settings)),
        steward.bind(partial(ensure_actors, settings)),
        *(workers(p if settings.tasks.pools else "").bind(partial(crew, settings, p)) for p in pools(settings.tasks)),
        **(stages(partial(open_stage, settings), settings.serving.rank_gpus) if apart else {}),
    )


async def check_tables(settings: Settings) -> None:
    """Raises InvalidSettings for tables that this version may not use. While ClickHouse is away nobody looks."""
    w = world(settings)
    try:
        await w.olap.version()
    except Unavailable as e:
        logger.warning("analytics is away; its tables are looked at when it is back", extra={"why": e.message})
    finally:
        await w.close()


def ensure_actors(settings: Settings) -> list[Any]:
    """The detached actors, made where absent."""
    from ray_app import cluster
    from ray_app.stores.actors import LocalStores
    from ray_app.tasks.actors import Scheduler

    return [
        cluster.detached(LocalStores, cluster.STORES, settings, max_concurrency=4),
        cluster.detached(Scheduler, cluster.SCHEDULER, partial(scheduler, settings)),
    ]
