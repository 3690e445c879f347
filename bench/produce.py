"""Behaviours for the benches on Kafka: what they look like, and many of them into a topic."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np
import orjson

from bench.machine import PARTITIONS
from ray_app.errors import Unavailable
from ray_app.events.base import Entry
from ray_app.events.kafka import KafkaLog
from ray_app.recommend.request_id import RequestIds

USERS, ITEMS = 20_000, 5_000
TYPES = ("impression",) * 10 + ("click",) * 6 + ("cart", "like", "play", "purchase")
AT_ONCE, SHOWN = 20_000, 20
REQUEST_IDS = RequestIds(b"bench")
TICK_S = 0.05


def behaviors(n: int, seed: int = 0, by_item: bool = False) -> Iterator[Entry]:
    """Of about 250 bytes: a power law of items, even users, one scenario, the last ten minutes. The key is the user, as
    with our own API; or the item."""
    rng = np.random.default_rng(seed)
    now = int(time.time() * 1000)
    for start in range(0, n, AT_ONCE):
        size = min(AT_ONCE, n - start)
        items, users = ((rng.zipf(1.3, size) - 1) % ITEMS).tolist(), rng.integers(0, USERS, size).tolist()
        types, ago = rng.integers(0, len(TYPES), size).tolist(), rng.integers(0, 600_000, size).tolist()
        for k in range(size):
            at, item, user = start + k, f"i{items[k]}", f"u{users[k]}"
            if at % SHOWN == 0:
                request_id = REQUEST_IDS.make(f"{seed:08x}{at:08x}", "home")
            body = {
                "event_id": f"event-{seed:04}-{at:012}", "tenant": "demo", "item_id": item, "type": TYPES[types[k]],
                "occurred_at": now - ago[k], "user_id": user, "value": 1.0, "scenario": "home",
                "request_id": request_id, "position": at % SHOWN,
            }  # fmt: skip
            yield Entry(item if by_item else f"demo/{user}", orjson.dumps(body))


async def fill(kafka_url: str, topic: str, n: int, by_item: bool = False) -> float:
    """Make the topic and append `n` behaviours by our own writer; returns seconds."""
    log, began = KafkaLog(kafka_url, PARTITIONS, 86_400), time.monotonic()
    await log.partitions(topic)
    entries = behaviors(n, by_item=by_item)
    while part := list(islice(entries, AT_ONCE)):
        await log.append(topic, part)
    await log.close()
    return time.monotonic() - began


class Producer:
    """Appends behaviours at a rate, in a thread of its own, until its block ends; while the brokers are away it tries
    again. `appended` counts those that are durable; `send` appends others beside them."""

    def __init__(self, kafka_url: str, topic: str, rate: int) -> None:
        self._topic, self._rate = topic, rate
        self._log = KafkaLog(kafka_url, PARTITIONS, 86_400)  # used in the thread alone
        self._ending = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="producer")
        self.appended = 0

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *why: object) -> None:
        self._ending.set()
        self._thread.join()

    def send(self, topic: str, entries: Sequence[Entry]) -> None:
        """Returns when they are durable."""
        asyncio.run_coroutine_threadsafe(self._log.append(topic, entries), self._loop).result(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._produce())

    async def _produce(self) -> None:
        began = time.monotonic()
        entries = (e for seed in count(1) for e in behaviors(AT_ONCE, seed))
        while not self._ending.is_set():
            due = int((time.monotonic() - began) * self._rate) - self.appended
            part = list(islice(entries, max(0, min(due, self._rate))))
            while part and not self._ending.is_set():
                try:
                    self.appended += len(await self._log.append(self._topic, part))
                    part = []
                except Unavailable:
                    began += TICK_S  # what was not sent is not made up for all at once
                    await asyncio.sleep(TICK_S)
            await asyncio.sleep(TICK_S)
        await self._log.close()
