"""Another program that writes to our topics as it likes, and what became of each of its messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka import AIOKafkaProducer

from ray_app.events.base import Appended, Place
from ray_app.streams.applied import wait_applied
from ray_app.streams.letters import Letter, Letters
from ray_app.streams.state import position_key
from tests.crash.test_engine import until

if TYPE_CHECKING:
    from tests.crash.test_served import Pool

COUNTING = ("behaviors", "hot", "metrics", "profile")  # what reads the behaviour topic
PREFIX, LIMIT_S = "lemo", 60.0
SEEN_S = 10.0  # a topic of letters that is new is seen within 5 s
MOST_BYTES = 8 << 20


@dataclass
class Producer:
    """Without keys, by another client. Remembers where each message went."""

    pool: Pool
    kafka: AIOKafkaProducer
    sent: list[Appended] = field(default_factory=list)

    async def send(
        self, topic: str, message: Any, partition: int = 0, at: int | None = None, key: bytes | None = None
    ) -> Appended:
        """`message`: bytes as they are, None for no value, or anything to be written as JSON; `at`: its own time."""
        value = message if message is None or isinstance(message, bytes) else orjson.dumps(message)
        batch = self.kafka.create_batch()
        batch.append(key=key, value=value, timestamp=at)
        m = await (await self.kafka.send_batch(batch, topic, partition=partition))
        self.sent.append(Appended(topic, m.partition, m.offset))
        return self.sent[-1]

    def flows(self, topic: str) -> tuple[str, ...]:
        """Those that read the topic."""
        e = self.pool.settings.events
        return COUNTING if topic == e.behavior_topic else ("slates",) if topic == e.slate_topic else ("items",)

    async def applied(self) -> None:
        """Everything that was sent is behind every flow."""
        for topic in {a.topic for a in self.sent}:
            mine, flows = [a for a in self.sent if a.topic == topic], self.flows(topic)
            assert await wait_applied(self.pool.world.redis, PREFIX, flows, mine, LIMIT_S), f"{topic} stands still"

    async def dead(self, at: Appended) -> dict[str, Letter]:
        """The letters of a message by the flow that wrote it."""
        letters = Letters(self.pool.world.log, self.pool.world.redis, PREFIX)
        same = (at.partition, at.position)
        return {x.flow: x async for x in letters.read(at.topic) if (x.partition, x.position) == same}

    async def refused(self, told: Sequence[tuple[Appended, str]]) -> None:
        """Each of these messages is a letter of every flow that reads it, with its reason; no other message is."""
        await self.applied()
        wanted = {(f, *_place(a), a.position): why for a, why in told for f in self.flows(a.topic)}
        found, until_s = await self._letters(), time.monotonic() + SEEN_S
        while len(found) < len(wanted) and time.monotonic() < until_s:
            await asyncio.sleep(0.1)
            found = await self._letters()
        assert found.keys() == wanted.keys(), {k: found.get(k) for k in found.keys() ^ wanted.keys()}
        assert {k: found[k] for k, why in wanted.items() if why not in found[k]} == {}

    async def _letters(self) -> dict[tuple[str, str, int, int], str]:
        letters, found = Letters(self.pool.world.log, self.pool.world.redis, PREFIX), {}
        for topic in {a.topic for a in self.sent}:
            async for x in letters.read(topic):
                found[x.flow, x.topic, x.partition, x.position] = x.why
        return found

    async def goes_on(self, topic: str, message: dict[str, Any]) -> None:
        """A good message in each partition of the topic is applied by each flow, and nothing is behind then."""
        log = self.pool.world.log
        own = "request_id" if topic == self.pool.settings.events.slate_topic else "event_id"
        sent = [await self.send(topic, message | {own: f"good{p}"}, p) for p in range(await log.partitions(topic))]
        await self.applied()
        for flow in self.flows(topic):
            await until(lambda flow=flow: self._no_lag(flow, topic), f"{flow} has no lag in {topic}", LIMIT_S)
        assert not any([await self.dead(a) for a in sent])

    async def _no_lag(self, flow: str, topic: str) -> bool:
        world = self.pool.world
        ends = await world.log.ends(topic)
        found = await world.redis.mget([position_key(PREFIX, flow, (topic, p)) for p in range(len(ends))])
        return [int(at or 0) for at in found] == ends


def _place(a: Appended) -> Place:
    return a.topic, a.partition


@asynccontextmanager
async def producing(pool: Pool) -> AsyncIterator[Producer]:
    """With one member at work."""
    servers = pool.settings.events.kafka_url.removeprefix("kafka://")
    kafka = AIOKafkaProducer(bootstrap_servers=servers, max_request_size=MOST_BYTES, request_timeout_ms=30_000)
    await kafka.start()
    pool.begin()
    try:
        yield Producer(pool, kafka)
    finally:
        await kafka.stop()
