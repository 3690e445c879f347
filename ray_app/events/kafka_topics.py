"""Which topics there are, how they are made, and where they begin and end."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    PolicyViolationError,
    StaleMetadata,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import ApiVersionRequest, CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from ray_app.cancel import cancel
from ray_app.errors import Unavailable
from ray_app.events.base import PlaceUnavailable
from ray_app.events.kafka_client import LOOK_S, READ_COMMITTED, REQUEST_MS, Cluster, leader

ABSENT_S = 0.5  # a topic that was not there is looked for again after this
LATEST, EARLIEST = -1, -2
AS_BROKERS_DO = -1  # the number of copies of a topic
OF_TOPIC = (
    ClusterAuthorizationFailedError, InvalidTopicError, PolicyViolationError, TopicAuthorizationFailedError,
)  # fmt: skip
TOPIC = 2  # the kind of resource whose settings are asked
PRODUCE, FETCH = 0, 1
# The release that brought these versions of the two requests, newest first.
RELEASES = (
    ("4.1 or later", 13, 18), ("4.0", 12, 17), ("3.9", 11, 17), ("3.8", 11, 16), ("3.7", 10, 16), ("3.5 or 3.6", 9, 15),
    ("3.3 or 3.4", 9, 13),
)  # fmt: skip


class Directory:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, int] = {}
        self._known_at = -LOOK_S
        self._looking: asyncio.Task[None] | None = None

    async def topics(self) -> Mapping[str, int]:
        """Those that exist, with the number of their partitions. Asked for all, since asking for one that is absent
        makes a broker create it, with its own settings."""
        if time.monotonic() - self._known_at > LOOK_S:
            if self._looking is None or self._looking.done():  # all who wait share one look
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(lambda t: t.cancelled() or t.exception())  # all may have gone away
            await asyncio.shield(self._looking)
        return self._known

    async def _look(self) -> None:
        cluster: Any = await self._cluster.ask("its topics", lambda c: c.fetch_all_metadata())
        self._known = {t: len(cluster.partitions_for_topic(t)) for t in cluster.topics()}
        self._known_at = time.monotonic()

    async def close(self) -> None:
        if self._looking:
            await cancel([self._looking])

    async def count(self, topic: str) -> int:
        """Partitions of `topic`, 0 when it is absent."""
        if topic not in await self.topics() and time.monotonic() - self._known_at > ABSENT_S:
            self._known_at = -LOOK_S
        return (await self.topics()).get(topic, 0)

    async def make(self, topic: str, partitions: int, settings: Mapping[str, str]) -> None:
        """Raises PlaceUnavailable, with the reason, when the brokers refuse, or have it and hide it from this user."""
        wanted: Any = [(topic, partitions, AS_BROKERS_DO, [], list(settings.items()))]

        async def work(client: AIOKafkaClient) -> None:
            controller: Any = client.cluster.controller
            if controller is None:
                raise StaleMetadata
            answer = await client.send(
                controller.nodeId, CreateTopicsRequest(wanted, REQUEST_MS, False), group=ConnectionGroup.COORDINATION
            )
            ((_, code, text),) = answer.topic_errors
            if for_code(code) is TopicAlreadyExistsError:
                await _look_for(client, topic)
            elif code:
                raise for_code(code)(text)

        told = ",".join(f"{k}={v}" for k, v in settings.items())
        what = (
            f"topic {topic} is absent and is not made. Make it with {partitions} partitions and {told}, or let the "
            "user create and describe topics"
        )
        try:
            await self._cluster.ask(what, work)
        except Unavailable as e:
            if isinstance(e.__cause__, OF_TOPIC):
                raise PlaceUnavailable(e.message) from e
            raise
        self._known_at = -LOOK_S

    async def offsets(self, topic: str, partitions: Sequence[int], which: int) -> list[int]:
        """The first or the next position of each of `partitions`; `which`: EARLIEST or LATEST."""

        async def work(client: AIOKafkaClient) -> dict[int, int]:
            await self._cluster.known(topic)
            led: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for p in partitions:
                led[leader(client, topic, p)].append((p, which))
            found: dict[int, int] = {}
            for node, wanted in led.items():
                request = OffsetRequest(-1, READ_COMMITTED, [(topic, wanted)])
                answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
                for p, code, _, offset in answer.topics[0][1]:
                    if code:
                        raise for_code(code)(f"{topic}/{p}")
                    found[p] = offset
            return found

        by_partition = await self._cluster.ask(f"positions of {topic}", work)
        return [by_partition[p] for p in partitions]

    async def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings of each topic, by name."""

        async def work(client: AIOKafkaClient) -> Any:
            request = DescribeConfigsRequest([(TOPIC, t, None) for t in topics])
            return await client.send(client.get_random_node(), request, group=ConnectionGroup.COORDINATION)

        answer = await self._cluster.ask("settings of its topics", work)
        return {r[3]: {c[0]: c[1] for c in r[4]} for r in answer.resources if r[0] == 0}

    async def release(self) -> str:
        """The brokers' release, as far as one can be told from the requests that they know: they do not say it."""

        async def work(client: AIOKafkaClient) -> Any:
            return await client.send(client.get_random_node(), ApiVersionRequest(), group=ConnectionGroup.COORDINATION)

        answer = await self._cluster.ask("its version", work)
        newest = {key: most for key, _, most in answer.api_versions}
        fitting = (name for name, produce, fetch in RELEASES if newest[PRODUCE] >= produce and newest[FETCH] >= fetch)
        return next(fitting, "before 3.3")


async def _look_for(client: AIOKafkaClient, topic: str) -> None:
    """Of all topics a user is told those that it may describe; only asked by name a broker says that it hides one."""
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    answer = await client.send(client.get_random_node(), request, group=ConnectionGroup.COORDINATION)
    for code, *_ in answer.topics:
        if for_code(code) is TopicAuthorizationFailedError:
            raise TopicAuthorizationFailedError("it exists, and this user may not describe it")
