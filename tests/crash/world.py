"""One flow over a log on disk, and the members that run it: each has connections of its own, as a process has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app.clock import FixedClock
from ray_app.config import Events, Settings
from ray_app.config import Stores as StoreSettings
from ray_app.events.base import Entry, Logged, Topics
from ray_app.events.sqlite import SqliteLog
from ray_app.flows.behaviors import Behaviors
from ray_app.flows.hot import Hot
from ray_app.flows.items import Items
from ray_app.flows.metrics import Metrics
from ray_app.flows.profile import ProfileFlow
from ray_app.flows.slates import Slates
from ray_app.recommend.request_id import Shown
from ray_app.stores.olap import Olap
from ray_app.stores.redis import connect
from ray_app.stores.sqlite import SqliteDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.streams.flow import Flow, Loop
from ray_app.streams.state import SCRIPT, State
from tests.crash.events import BROKEN, NOW
from tests.crash.recount import FEATURES, HELD, IDS, METRICS, PREFIX, WANTED

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.models.base import Embedder

GAPS = ("read", "flushed", "buried", "advanced", "told")
FLOWS = ("items", "behaviors", "slates", "hot", "metrics", "profile")
PARTITIONS, BATCH, WINDOW_S = 4, 30, 600  # a batch is small beside what is sent, so that gaps lie in its middle
TOPIC = "events"
TOPICS = Topics((TOPIC,))
Hook = Callable[[str], Awaitable[None]]


class Abort(Exception):
    """The process ends here."""


class Dies:
    """Ends its member in the `at`-th pass of one gap."""

    def __init__(self, gap: str, at: int = 3) -> None:
        self._gap, self._at, self._passed = gap, at, Counter[str]()

    async def __call__(self, gap: str) -> None:
        self._passed[gap] += 1
        if gap == self._gap and self._passed[gap] == self._at:
            await self.reached()

    async def reached(self) -> None:
        raise Abort


class Sleeps(Dies):
    """Stops its member there until `wake`: a zombie, when another has taken over meanwhile."""

    def __init__(self, gap: str, at: int = 2) -> None:
        super().__init__(gap, at)
        self.asleep, self._woken = asyncio.Event(), asyncio.Event()

    async def reached(self) -> None:
        self.asleep.set()
        await self._woken.wait()

    def wake(self) -> None:
        self._woken.set()


def _settings() -> Settings:
    """Of the items flow."""
    return Settings(events=Events(item_topics=(TOPIC,)), stores=StoreSettings(redis_prefix=PREFIX))


async def _request_ids() -> Callable[[str], Shown | None]:
    return IDS.read


async def _no_embedder(tenant: str) -> Embedder | None:
    return None


async def _goes_on(gap: str) -> None:
    """No abort."""


@dataclass(frozen=True)
class Stores:
    tenant: str
    log: SqliteLog
    redis: Redis
    olap: Olap
    documents: SqliteDocuments
    vectors: SqliteVectors

    async def close(self) -> None:
        for store in (self.log, self.documents, self.vectors):
            await store.close()
        await self.redis.aclose()

    def flow(self, name: str) -> Flow:
        flows: dict[str, Callable[[], Flow]] = {
            "items": lambda: Items(_settings(), self.documents, self.vectors, _no_embedder),
            "behaviors": lambda: Behaviors(TOPICS, self.olap),
            "slates": lambda: Slates(TOPICS, self.olap),
            "hot": lambda: Hot(TOPICS, PREFIX, FEATURES),
            "metrics": lambda: Metrics(TOPICS, PREFIX, METRICS, _request_ids),
            "profile": lambda: ProfileFlow(TOPICS, PREFIX, FEATURES),
        }
        return flows[name]()


def loop_of(stores: Stores, flow: Flow, hook: Hook = _goes_on, script: str = SCRIPT, generation: int = 0) -> Loop:
    state = State(stores.redis, PREFIX, flow.name, WINDOW_S, script)
    return Loop(flow, stores.log, state, f"group.{flow.name}", hook, generation)


class Member:
    """Reads every partition; remembers where it stands, as the engine does."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._positions: dict[int, int] = {}

    async def drain(self) -> None:
        """Steps until nothing is left in any partition."""
        for p in range(PARTITIONS):
            if p not in self._positions:
                self._positions[p] = (await self.loop.state.positions([(TOPIC, p)]))[TOPIC, p]
        moved = True
        while moved:
            moved = False
            for p, at in list(self._positions.items()):
                self._positions[p] = await self.loop.step((TOPIC, p), at, BATCH)
                moved |= self._positions[p] != at

    def forget(self) -> None:
        """After a failure, as the engine does."""
        self._positions.clear()


class World:
    """`flow` is the one that every member runs."""

    def __init__(self, folder: Path, redis_url: str, olap_url: str, flow: str) -> None:
        self._folder, self._redis_url, self.flow = folder, redis_url, flow
        self._close = AsyncExitStack()
        self.clock = FixedClock(NOW)
        self._olap = Olap(olap_url)  # of all members: it holds nothing of theirs, and a connection takes long to make
        self._close.push_async_callback(self._olap.close)
        self.stores = self._keep()

    def open(self) -> Stores:
        """Connections of one member, to be closed in the event loop that uses them."""
        return Stores(
            self._folder.name.replace("_", "-"),  # the sinks are shared by all tests, and no two have one folder
            SqliteLog(self._folder / "events.db", PARTITIONS, self.clock, 30 * 86400),
            connect(self._redis_url),
            self._olap,
            SqliteDocuments(self._folder / "documents.db", self.clock),
            SqliteVectors(self._folder / "vectors.db"),
        )

    def _keep(self) -> Stores:
        stores = self.open()
        self._close.push_async_callback(stores.close)
        return stores

    async def close(self) -> None:
        await self._close.aclose()

    def member(self, hook: Hook = _goes_on, script: str = SCRIPT) -> Member:
        stores = self._keep()
        return Member(loop_of(stores, stores.flow(self.flow), hook, script))

    async def feed(self, entries: Sequence[Entry]) -> None:
        """Everything twice: within a few minutes, and then the time of the log goes on beyond the repeat window."""
        for part in (entries[k : k + 40] for k in range(0, len(entries), 40)):
            await self.stores.log.append(TOPIC, part[:25])
            self.clock.pass_s(WINDOW_S / 4)
            await self.stores.log.append(TOPIC, [*part, *part[:25:-1], *part[25:26]])
            self.clock.pass_s(2 * WINDOW_S)

    async def log(self) -> list[Logged]:
        """What was sent, is still there and can be read."""
        log = self.stores.log
        parts = [await log.read(TOPIC, p, await log.first(TOPIC, p), 1_000_000) for p in range(PARTITIONS)]
        return [e for part in parts for e in part if e.body != BROKEN.body]

    async def wanted(self, flow: str = "") -> dict[Any, Any]:
        return WANTED[flow or self.flow](await self.log())

    async def held(self, flow: str = "") -> dict[Any, Any]:
        return await HELD[flow or self.flow](self.stores)

    async def lags(self) -> dict[int, int]:
        """What lag tools see."""
        log, group = self.stores.log, f"group.{self.flow}"
        return {p: await log.end(TOPIC, p) - await log.told(group, TOPIC, p) for p in range(PARTITIONS)}

    async def letters(self) -> list[Logged]:
        parts = [await self.stores.log.read(f"{TOPIC}.dlq", p, 0, 1_000_000) for p in range(PARTITIONS)]
        return [e for part in parts for e in part]
