"""The brokers as one client: found again after an outage, and asked in bounded time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    StaleMetadata,
)
from aiokafka.structs import TopicPartition

from ray_app.errors import Unavailable
from ray_app.events.kafka_url import Connection

T = TypeVar("T")
REQUEST_MS = 4000  # a request without an answer closes its connection
CONNECT_S, ASK_S, RETRY_S = 5.0, 8.0, 0.1
LOOK_S = 5.0  # how old may be what we know of the topics and their leaders
READ_COMMITTED = 1
AWAY = (TimeoutError, KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, StaleMetadata)


class Cluster:
    """Lazy: nothing is sent before the first call. Fetches have a connection of their own to each broker, since a
    broker answers one request of a connection at a time and a fetch waits there; `send` uses the other."""

    def __init__(self, connection: Connection) -> None:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs as errors is tried again, or is raised
        self.shown = connection.shown
        self._connection = connection
        self._client: AIOKafkaClient | None = None
        self._opening = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def client(self) -> AIOKafkaClient:
        """Raises Unavailable."""
        async with self._opening:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def _open(self) -> AIOKafkaClient:
        client = AIOKafkaClient(
            bootstrap_servers=list(self._connection.servers), client_id="lemo", request_timeout_ms=REQUEST_MS,
            metadata_max_age_ms=int(LOOK_S * 1000), **self._connection.arguments,
        )  # fmt: skip
        make_no_topics(client)
        try:
            async with asyncio.timeout(CONNECT_S):
                await client.bootstrap()
        except (KafkaError, OSError) as e:  # TimeoutError is an OSError
            why = await self._why(client) or str(e)
            await client.close()
            raise Unavailable(f"Kafka at {self.shown} cannot be reached: {why}") from e
        except BaseException:  # who asked has gone
            await client.close()
            raise
        return client

    async def _why(self, client: AIOKafkaClient) -> str:
        """The reason of one broker: bootstrapping only logs it."""
        host, port, _ = client.hosts[0]
        try:
            async with asyncio.timeout(CONNECT_S / 2):
                (await create_conn(host, port, **self._connection.arguments)).close()
        except (KafkaError, OSError) as e:
            return str(e) or type(e).__name__
        return ""

    def refresh(self) -> None:
        """Look up the leaders again, soon."""
        if self._client is not None:
            self._client.force_metadata_update()

    def drop(self) -> None:
        """The next call finds the brokers again by the URL: their addresses may have changed."""
        client, self._client = self._client, None
        if client is not None:
            task = asyncio.create_task(client.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        self.drop()
        if self._ending:
            await asyncio.wait(self._ending, timeout=1.0)

    async def ask(self, what: str, work: Callable[[AIOKafkaClient], Awaitable[T]], within_s: float = ASK_S) -> T:
        """What `work` returns, which is called again after an error that passes. Raises Unavailable."""
        met: list[Exception] = []
        try:
            async with asyncio.timeout(within_s):
                return await self._again(work, met)
        except (KafkaError, TimeoutError) as e:
            why = met[-1] if met else e
            if isinstance(e, TimeoutError) and isinstance(why, AWAY):
                self.drop()
            raise Unavailable(f"Kafka at {self.shown}: {what}: {reason(why)}") from why

    async def _again(self, work: Callable[[AIOKafkaClient], Awaitable[T]], met: list[Exception]) -> T:
        while True:
            client = await self.client()
            try:
                return await work(client)
            except KafkaError as e:
                met.append(e)
                if not (e.retriable or type(e) is KafkaError):  # the latter: no broker gave metadata
                    raise
            if met[-1].invalid_metadata:  # type: ignore[attr-defined]
                client.force_metadata_update()
            await asyncio.sleep(RETRY_S)

    async def known(self, topic: str) -> AIOKafkaClient:
        """A client that knows the leaders of `topic`, which exists."""
        client = await self.client()
        if client.cluster.partitions_for_topic(topic) is None:
            await asyncio.wait([client.force_metadata_update()], timeout=CONNECT_S)
        return client


def make_no_topics(client: AIOKafkaClient) -> None:
    """For ever a client of aiokafka asks for each topic that it has met, by name, and a broker makes one that is
    absent: a topic that was deleted would come back. This one asks for all that exist."""
    asks: Any = client
    update = asks._metadata_update
    asks._metadata_update = lambda cluster, topics: update(cluster, None)


def leader(client: AIOKafkaClient, topic: str, partition: int) -> int:
    """Raises StaleMetadata while there is none."""
    node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    if node is None or node == -1:
        raise StaleMetadata(f"{topic}/{partition} has no leader")
    return int(node)


def reason(e: BaseException | None) -> str:
    """One line; aiokafka's errors often have a name and no text."""
    text = " ".join(str(e).split())
    return f"{type(e).__name__} {text}".strip()[:300] if text != type(e).__name__ else text
