"""Positions of flows under the names of consumer groups, for lag tools. No flow is a member of its group."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.client import ConnectionGroup as Channel
from aiokafka.errors import IllegalGenerationError, KafkaError, RebalanceInProgressError, UnknownMemberIdError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from ray_app.cancel import cancel
from ray_app.errors import Unavailable
from ray_app.events.base import Place
from ray_app.events.kafka_client import Cluster

EVERY_S = 0.5  # a step takes milliseconds, and nobody looks that often
TELL_S = 3.0  # at the first use the brokers make a topic for it
MEMBERS = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


class Groups:
    """Commits as a program without membership. A broker refuses that while the group has members."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._coordinators: dict[str, int] = {}
        self._untold: dict[str, dict[Place, int]] = defaultdict(dict)
        self._telling: asyncio.Task[None] | None = None
        self._failed: Unavailable | None = None

    def tell(self, group: str, place: Place, position: int) -> None:
        """Sent within EVERY_S. Raises Unavailable, once, when what was told before could not be sent."""
        self._untold[group][place] = position
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())
        failed, self._failed = self._failed, None
        if failed:
            raise failed

    async def told(self, group: str, place: Place) -> int:
        await self._send()
        topic, partition = place

        async def work(client: AIOKafkaClient) -> int:
            answer = await self._ask(client, group, OffsetFetchRequest(group, [(topic, [partition])]))
            _raise(self._coordinators, group, getattr(answer, "error_code", 0))  # of the group: it names no topic then
            found = [part for _, parts in answer.topics for part in parts]
            for *_, code in found:
                _raise(self._coordinators, group, code)
            return int(found[0][1]) if found else -1

        return max(0, await self._cluster.ask(f"positions of group {group}", work))

    async def close(self) -> None:
        if self._telling:
            await cancel([self._telling])
        try:
            async with asyncio.timeout(1.0):
                await self._send()
        except (Unavailable, TimeoutError):
            self._untold.clear()

    async def _tell(self) -> None:
        while self._untold:
            try:
                await self._send()
            except Unavailable as e:
                self._failed = e
            await asyncio.sleep(EVERY_S)

    async def _send(self) -> None:
        while self._untold:
            group, positions = self._untold.popitem()
            await self._commit(group, positions)

    async def _commit(self, group: str, positions: dict[Place, int]) -> None:
        topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for (topic, partition), position in positions.items():
            topics[topic].append((partition, position, ""))

        async def work(client: AIOKafkaClient) -> None:
            answer = await self._ask(client, group, OffsetCommitRequest(group, -1, "", -1, list(topics.items())))
            for _, parts in answer.topics:
                for _, code in parts:
                    _raise(self._coordinators, group, code)

        await self._cluster.ask(f"group {group} was not told", work, within_s=TELL_S)

    async def _ask(self, client: AIOKafkaClient, group: str, request: Any) -> Any:
        if group not in self._coordinators:
            self._coordinators[group] = await client.coordinator_lookup(CoordinationType.GROUP, group)
        try:
            return await client.send(self._coordinators[group], request, group=Channel.COORDINATION)
        except KafkaError:
            self._coordinators.pop(group, None)  # a broker that is down: another has taken its groups over
            raise


def _raise(coordinators: dict[str, int], group: str, code: int) -> None:
    error = for_code(code)
    if error in MEMBERS:
        raise error("another program is a member of it")
    if code:
        coordinators.pop(group, None)  # it may be elsewhere by now
        raise error(group)
