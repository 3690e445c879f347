"""Appends by one idempotent producer: all are durable on return, or an error says that none may be counted on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Entry, PlaceUnavailable, partition_of
from ray_app.events.kafka_client import LOOK_S, REQUEST_MS, make_no_topics, reason
from ray_app.events.kafka_url import Connection

MESSAGE_BYTES = 8 << 20  # a body of 4 MB, also as a dead letter, whose base64 is a third longer
BATCH_BYTES = 512 << 10  # below what any broker takes by default; a single larger entry is a batch of its own
FEW = 20  # so many entries go into the batches of all who append at once; more make their own, at a tenth of the cost
OF_TOPIC = (MessageSizeTooLargeError, TopicAuthorizationFailedError)
LEAVE_S = 5.0  # an old producer may end what it is sending


class Writer:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def append(self, topic: str, entries: Sequence[Entry], within_s: float) -> list[Appended]:
        """`topic` exists. Raises Unavailable; what was on its way may then have arrived."""
        producer = None
        try:
            async with asyncio.timeout(within_s):
                producer = await self._open()
                n = len(await producer.partitions_for(topic))
                places = [partition_of(e.key, n) for e in entries]
                positions = await (_few if len(entries) <= FEW else _many)(producer, topic, entries, places)
        except (KafkaError, OSError, AssertionError) as e:  # TimeoutError is an OSError
            self._retire(producer)
            kind = PlaceUnavailable if isinstance(e, OF_TOPIC) else Unavailable
            raise kind(self._message(topic, entries, e)) from e
        return [Appended(topic, p, at) for p, at in zip(places, positions, strict=True)]

    def _message(self, topic: str, entries: Sequence[Entry], e: BaseException) -> str:
        if isinstance(e, MessageSizeTooLargeError):
            longest = max(len(entry.body) for entry in entries)
            return f"topic {topic} takes no entry of {longest} bytes. Raise its max.message.bytes to {MESSAGE_BYTES}"
        why = "no acknowledgement in time" if isinstance(e, TimeoutError) else reason(e)
        return f"Kafka at {self._connection.shown}: {topic} was not appended to: {why}. Send it again"

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=list(self._connection.servers), client_id="lemo", enable_idempotence=True,
                    acks="all", max_batch_size=BATCH_BYTES, max_request_size=MESSAGE_BYTES,
                    request_timeout_ms=REQUEST_MS, metadata_max_age_ms=int(LOOK_S * 1000), **self._connection.arguments,
                )  # fmt: skip
                make_no_topics(producer.client)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _retire(self, producer: AIOKafkaProducer | None) -> None:
        """After any error: a batch that failed leaves a gap in the numbers by which the broker knows repeats, and the
        brokers may be found elsewhere by now. What others have under way may still arrive."""
        if producer is not None and producer is self._producer:
            self._producer = None
            task = asyncio.create_task(_end(producer))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        self._retire(self._producer)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=2 * LEAVE_S)


async def _few(producer: AIOKafkaProducer, topic: str, entries: Sequence[Entry], places: Sequence[int]) -> list[int]:
    sent = [
        await producer.send(topic, e.body, e.key.encode(), partition=p) for e, p in zip(entries, places, strict=True)
    ]
    return [record.offset for record in await _all(sent)]


async def _many(producer: AIOKafkaProducer, topic: str, entries: Sequence[Entry], places: Sequence[int]) -> list[int]:
    by_place: dict[int, list[int]] = defaultdict(list)
    for k, p in enumerate(places):
        by_place[p].append(k)
    found = await _all([_in_place(producer, topic, p, [entries[k] for k in mine]) for p, mine in by_place.items()])
    positions = [0] * len(entries)
    for mine, at in zip(by_place.values(), found, strict=True):
        for k, position in zip(mine, at, strict=True):
            positions[k] = position
    return positions


async def _in_place(producer: AIOKafkaProducer, topic: str, partition: int, entries: Sequence[Entry]) -> list[int]:
    sent: list[Any] = []
    sizes: list[int] = []
    put = 0
    while put < len(entries):
        batch, first = producer.create_batch(), put
        while put < len(entries) and _put(batch, entries[put]):
            put += 1
        batch.close()  # or others would add to it
        sent.append(await producer.send_batch(batch, topic, partition=partition))
        sizes.append(put - first)
    records = await _all(sent)
    return [record.offset + k for record, size in zip(records, sizes, strict=True) for k in range(size)]


def _put(batch: Any, e: Entry) -> bool:
    """False when the batch is full; an empty one takes an entry of any size."""
    return batch.append(key=e.key.encode(), value=e.body, timestamp=None) is not None


async def _all(those: Sequence[Awaitable[Any]]) -> list[Any]:
    """Their results, or the first error once all have ended, so that none is left unseen."""
    results = await asyncio.gather(*those, return_exceptions=True)
    for r in results:
        if isinstance(r, BaseException):
            raise r
    return results


async def _end(producer: AIOKafkaProducer) -> None:
    """An idempotent producer tries for ever, and its own `stop` waits for that. Where no broker comes back, only its
    parts can be ended."""
    try:
        async with asyncio.timeout(LEAVE_S):
            await producer.flush()
    except TimeoutError:
        await producer._sender.close()
        await producer.client.close()
        producer._closed = True
        return
    await producer.stop()
