"""One topic or partition of Kafka that is out of reach, hidden or gone: the others go on, and none comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import StaleMetadata

from ray_app.clock import SystemClock, new_id
from ray_app.config import Streams
from ray_app.events import kafka_reader
from ray_app.events.base import Entry, PlaceUnavailable, Topics, partition_of
from ray_app.events.kafka import KafkaLog
from ray_app.stores.redis import connect
from ray_app.streams.control import Control
from ray_app.streams.engine import Engine, Runnable
from ray_app.streams.flow import Batch, Loop
from ray_app.streams.partitions import Leases
from ray_app.streams.places import Places
from ray_app.streams.state import Op, State
from tests.contracts.test_kafka_log import log, servers, started, topic, until
from tests.services.kafka import KafkaBroker

__all__ = ["log", "topic"]
RIGHTS = "org.apache.kafka.tools.AclCommand"


def allow(kafka: KafkaBroker, topic: str, *operations: str) -> None:
    """The guest may do that with the topic, and nothing else."""
    named = [part for o in operations for part in ("--operation", o)]
    kafka.tool(RIGHTS, "--add", "--allow-principal", "User:guest", "--topic", topic, *named)


class Counts:
    name, linger_s = "counts", 0.0

    def __init__(self, *topics: str) -> None:
        self.topics = Topics(topics)

    async def flush(self, batch: Batch) -> Sequence[Op]:
        return [Op(("INCR", f"count:{e.topic}")) for e in batch.entries]


async def test_a_topic_that_may_not_be_read_slows_no_other(kafka: KafkaBroker, log: KafkaLog, redis_url: str) -> None:
    readable, closed, hidden = (f"{name}-{new_id()}" for name in ("open", "closed", "hidden"))
    for one in (readable, closed, hidden):
        await log.append(one, [Entry("k", b"")])
    allow(kafka, readable, "Read")
    allow(kafka, closed, "Describe")
    allow(kafka, hidden, "Create")

    async def make() -> Runnable:
        guest, redis, clock = KafkaLog(kafka.guest_url, 4, 3600), connect(redis_url), SystemClock()
        flow = Counts(hidden, closed, readable)
        loop = Loop(flow, guest, State(redis, "lemo", flow.name, 600), f"g-{readable}")
        leases = Leases(redis, "lemo", flow.name, "m", 1.0, clock)

        async def close() -> None:
            await guest.close()
            await redis.aclose()

        return Runnable(loop, Places(guest, flow.topics, clock), leases, Control(redis, "lemo"), 0, close)

    redis = connect(redis_url)

    async def counted(n: int) -> None:
        async def all_of_them() -> bool:
            return int(await redis.get(f"count:{readable}") or 0) == n

        await until(all_of_them, f"{n} are counted", 30)

    engine = Engine({"counts": make}, Streams(lease_s=1.0), SystemClock())
    engine.start()
    try:
        await counted(1)
        began = time.monotonic()
        for n in range(2, 32):
            await log.append(readable, [Entry("k", b"")])
            await counted(n)
        assert time.monotonic() - began < 10
        assert not await redis.exists(f"count:{closed}")
        allow(kafka, closed, "Read")

        async def read() -> bool:
            return await redis.get(f"count:{closed}") == b"1"

        await until(read, "it is read once it may be", 30)
    finally:
        await asyncio.to_thread(engine.stop)
        await redis.aclose()


async def test_a_topic_that_is_hidden_from_the_user_is_named_with_what_to_do(
    kafka: KafkaBroker, log: KafkaLog, topic: str
) -> None:
    await log.partitions(topic)
    allow(kafka, topic, "Create")
    guest = KafkaLog(kafka.guest_url, 4, 3600)
    async with asyncio.timeout(15):
        with pytest.raises(PlaceUnavailable, match=r"let the user create and describe topics.*may not describe") as e:
            await guest.partitions(topic)
    assert topic in e.value.message
    await guest.close()


async def test_a_partition_without_a_leader_is_named_soon_and_then_at_once(
    log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broker leads every partition of the tests, so that only the answer about this one is made up."""
    keys = {partition_of(f"k{k}", 4): f"k{k}" for k in range(50)}
    await log.append(topic, [Entry(keys[p], b"first") for p in range(4)])
    client = await log._cluster.client()
    leader = kafka_reader.leader
    away = True

    def none_for_one(client: Any, of: str, partition: int) -> int:
        if away and (of, partition) == (topic, 2):
            raise StaleMetadata("it has no leader")
        return leader(client, of, partition)

    monkeypatch.setattr(kafka_reader, "leader", none_for_one)
    assert [e.body for e in await log.read(topic, 1, 0, 10)] == [b"first"]
    for within_s in (3.0, 0.5, 0.5):
        began = time.monotonic()
        with pytest.raises(PlaceUnavailable, match=f"{topic}/2: .*no broker leads it"):
            await log.read(topic, 2, 0, 10)
        assert time.monotonic() - began < within_s
        assert [e.body for e in await log.read(topic, 1, 0, 10)] == [b"first"]
    assert await log._cluster.client() is client  # the connections of the others are kept
    away = False

    async def read() -> bool:
        try:
            return [e.body for e in await log.read(topic, 2, 0, 10)] == [b"first"]
        except PlaceUnavailable:
            return False

    await until(read, "it is read once it has a leader", 10)


async def test_a_topic_that_was_deleted_does_not_come_back(kafka: KafkaBroker, log: KafkaLog, topic: str) -> None:
    """Asking for it by name would make it, with one partition and the senders' time."""
    await log.append(topic, [Entry("k", b"")])
    assert await log.read(topic, partition_of("k", 4), 0, 10)
    async with started(AIOKafkaAdminClient(bootstrap_servers=servers(kafka))) as admin:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics() and topic not in await log.topics()

        await until(gone, "it is deleted")
        producer = log._writer._producer
        assert producer is not None
        for client in (await log._cluster.client(), producer.client):
            for _ in range(2):
                await client.force_metadata_update()
            assert client.cluster.partitions_for_topic(topic) is None
        assert topic not in await admin.list_topics()


async def test_a_dead_letter_topic_that_takes_no_large_letter_is_judged(
    kafka: KafkaBroker, log: KafkaLog, topic: str
) -> None:
    await log.partitions(topic)
    async with started(AIOKafkaAdminClient(bootstrap_servers=servers(kafka))) as admin:
        await admin.create_topics([NewTopic(f"{topic}.dlq", 4, 1)])

    async def judged() -> bool:
        found = await log.findings([topic])
        return any(
            f"topic {topic}.dlq takes messages of 1048588 bytes" in one and "max.message.bytes=8388608" in one
            for one in found
        )

    await until(judged, "what to set is said", 10)
    kafka.tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics", "--entity-name", f"{topic}.dlq",
               "--add-config", "max.message.bytes=8388608")  # fmt: skip
    assert await log.findings([topic]) == []
