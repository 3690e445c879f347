"""Two replicas of the pool on a real Kafka, with every other store served too: killed, stopped past their leases and
woken, and Redis put back to an older file. A tenth of what is sent is sent twice. After every round each flow's state
equals a recount of the topics."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ray_app import wiring
from ray_app.clock import SystemClock
from ray_app.config import Events, Features, Metrics, Settings, Stores, Streams
from ray_app.events.base import Appended, Entry
from ray_app.events.schema import behavior_entry
from ray_app.stores.base import Document
from ray_app.streams.applied import wait_applied
from ray_app.types import Behavior
from tests.crash import recount
from tests.crash import world as worlds
from tests.crash.events import behaviors, item_changes, slates
from tests.crash.test_engine import LEASE_S, PROGRAM, Member, until
from tests.crash.world import PARTITIONS

if TYPE_CHECKING:
    from tests.conftest import RedisServer
    from tests.services.kafka import KafkaBroker

ROUNDS = 20 if os.environ.get("SOAK") else 5
FLOWS = ("items", "behaviors", "slates", "hot", "metrics", "profile")
REDIS_BACK = "redis goes back"


class Pool:
    """Member processes on served stores, and what a recount needs."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings, self._folder = settings, folder
        self.world = wiring.world(settings)
        w = self.world
        tenant = folder.name.replace("_", "-")
        self.stores = worlds.Stores(tenant, w.log, w.redis, w.olap, w.documents, w.vectors)  # type: ignore[arg-type]
        e = settings.events
        self.topics = dict.fromkeys(FLOWS, e.behavior_topic) | {"items": e.item_topic, "slates": e.slate_topic}
        self.members: list[Member] = []

    def begin(self) -> Member:
        """One more process, with its settings from a file."""
        file = self._folder / "settings.json"
        file.write_text(self.settings.model_dump_json())
        env = {k: v for k, v in os.environ.items() if not k.startswith("LEMO_")}
        member = Member(subprocess.Popen([sys.executable, str(PROGRAM), str(file)], stdin=subprocess.PIPE, env=env))
        member.begin()
        self.members.append(member)
        return member

    async def send(self, topic: str, entries: Sequence[Entry], rng: random.Random) -> None:
        """In small appends; a tenth of them again, in another order, as a producer does that heard no answer."""
        for k in range(0, len(entries), 7):
            await self.world.log.append(topic, entries[k : k + 7])
            if rng.random() < 0.1:
                again = list(entries[max(0, k - 7) : k + 7])
                rng.shuffle(again)
                await self.world.log.append(topic, again)

    async def applied(self, timeout_s: float = 90.0) -> bool:
        prefix, done = self.settings.stores.redis_prefix, True
        for flow, topic in self.topics.items():
            ends = await self.world.log.ends(topic)
            last = [Appended(topic, p, end - 1) for p, end in enumerate(ends) if end]
            done &= await wait_applied(self.world.redis, prefix, (flow,), last, timeout_s)
        return done

    async def check(self) -> None:
        for flow, topic in self.topics.items():
            log = self.world.log
            parts = [await log.read(topic, p, 0, 1_000_000) for p in range(await log.partitions(topic))]
            entries = [e for part in parts for e in part]
            assert entries, topic
            assert await recount.HELD[flow](self.stores) == recount.WANTED[flow](entries), flow

    async def alive(self, members: int) -> bool:
        """That many share the partitions."""
        places = [(f, t, p) for f, t in self.topics.items() for p in range(PARTITIONS)]
        found = await self.world.redis.mget([f"lemo:lease:{f}:{t}:{p}" for f, t, p in places])
        return None not in found and len(set(found)) == members

    async def close(self) -> None:
        for member in self.members:
            member.kill()
        await self.world.close()


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, clickhouse_url: str, mongodb_url: str, kafka: KafkaBroker) -> Settings:
    """Every store served, and topics of the test's own."""
    name = tmp_path.name.replace("_", "-")
    return Settings(
        data=tmp_path,
        stores=Stores(redis_url=redis_url, clickhouse_url=clickhouse_url, mongodb_url=mongodb_url),
        events=Events(
            kafka_url=kafka.url, partitions=PARTITIONS, item_topics=(f"items-{name}",),
            tenant_topics=f"of-{name}-{{tenant}}", behavior_topic=f"behaviors-{name}", slate_topic=f"slates-{name}",
        ),
        streams=Streams(flows=FLOWS, batch=50, lease_s=LEASE_S),
        features=Features(recent_items=1000, seen_items=20_000),
        metrics=Metrics(**recount.METRICS.model_dump()),
    )  # fmt: skip


@pytest.fixture
async def pool(tmp_path: Path, settings: Settings) -> AsyncIterator[Pool]:
    opened = Pool(tmp_path, settings)
    secret = Document("0", 0, {"hex": (b"k" * 32).hex()})  # as the recount has it
    await opened.world.documents.upsert("system", "secret-request_id", [secret])
    for topic in set(opened.topics.values()):
        assert await opened.world.log.partitions(topic) == PARTITIONS
    yield opened
    await opened.close()


def until_now(tenant: str, n: int) -> list[Behavior]:
    """Of many days the last one ends now: what is to come is a dead letter."""
    now = SystemClock().now()
    ahead = max(b.occurred_at for b in behaviors(tenant, n, now)) - now
    return behaviors(tenant, n, now - max(0, ahead))


async def test_rounds_of_kills_zombies_and_an_older_redis_change_no_count(
    pool: Pool, redis_server: RedisServer
) -> None:
    rng, tenant = random.Random(os.environ.get("SEED", "lemo")), pool.stores.tenant
    n = 280 * ROUNDS
    sent = {
        pool.topics["items"]: item_changes(tenant, n),
        pool.topics["slates"]: slates(tenant, n),
        pool.topics["hot"]: [behavior_entry(b) for b in until_now(tenant, n)],
    }
    pool.begin()
    pool.begin()
    await until(lambda: pool.alive(2), "both have partitions", 60)
    deeds: list[Callable[[Pool, RedisServer, random.Random], Awaitable[None]]] = [kill, stop, go_back]
    for turn in range(ROUNDS):
        parts = {t: e[turn * n // ROUNDS : (turn + 1) * n // ROUNDS] for t, e in sent.items()}
        sending = asyncio.gather(*(pool.send(t, part, rng) for t, part in parts.items()))
        await asyncio.gather(sending, deeds[turn % 3](pool, redis_server, rng))
        assert await pool.applied(), f"round {turn}"
        await pool.check()
    await until(lambda: pool.alive(2), "two members are at work at the end", 30)


async def kill(pool: Pool, redis: RedisServer, rng: random.Random) -> None:
    """kill -9 of one, and another in its place."""
    pool.members.pop(rng.randrange(2)).kill()
    pool.begin()


async def stop(pool: Pool, redis: RedisServer, rng: random.Random) -> None:
    """One stands still until the other has everything, and is woken as a zombie."""
    process = pool.members[rng.randrange(2)].process
    process.send_signal(signal.SIGSTOP)
    try:
        await until(lambda: pool.alive(1), "the other has every partition", 30)
    finally:
        process.send_signal(signal.SIGCONT)


async def go_back(pool: Pool, redis: RedisServer, rng: random.Random) -> None:
    """Redis loses what it acknowledged since a moment ago."""
    saved = redis.saved()

    async def grown() -> bool:
        return len(redis.saved()) > len(saved) + 10_000

    await until(grown, "Redis has more than the copy", 30)
    redis.restore(saved)
