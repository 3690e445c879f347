"""Loops as a good programmer writes them by hand for one purpose: the measure of what the flows may cost.

`python -m bench.loops NAME ...` reads a line, works until it has read `--events`, and prints one JSON line. They keep
no promise: a crash loses or repeats what is in hand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import clickhouse_connect
import orjson
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis

from ray_app.features.hot import WEIGHTS
from ray_app.flows.behaviors import COLUMNS

BATCH, BUCKET_MS = 5_000, 300_000
Apply = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]


class Sink:
    """Behaviours into a table of ClickHouse, in the columns that ours has."""

    def __init__(self, url: str, table: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._client = clickhouse_connect.get_client(
            host=host, port=int(port), autogenerate_session_id=False, database="__default__"
        )
        self._table = table

    async def __call__(self, events: Sequence[dict[str, Any]]) -> None:
        rows = [
            (
                e["tenant"], e["event_id"], e["user_id"], e["user_id"], "", e["item_id"], e["type"], e.get("value"),
                e.get("scenario", ""), e.get("request_id", ""), e.get("position"), e["occurred_at"], e["occurred_at"],
            )
            for e in events
        ]  # fmt: skip
        await asyncio.to_thread(self._client.insert, self._table, rows, column_names=list(COLUMNS))


class State:
    """Hot sums, counts per minute, and each visitor's recent items, in one pipeline a batch."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, protocol=2)

    async def __call__(self, events: Sequence[dict[str, Any]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for e in events:
            at, item, weight = e["occurred_at"], e["item_id"], WEIGHTS.get(e["type"], 0)
            pipe.hincrby(f"loop:count:{e['tenant']}:{at // 60_000}", e["type"], 1)
            if not weight:
                continue
            for scenario in ("-", e.get("scenario", "home")):
                pipe.hincrby(f"loop:hot:{e['tenant']}:{scenario}:{at // BUCKET_MS}", item, weight)
            pipe.zadd(f"loop:recent:{e['tenant']}:{e['user_id']}", {item: at})
            pipe.zadd(f"loop:seen:{e['tenant']}:{e['user_id']}", {item: at})
        await pipe.execute()


class Both:
    def __init__(self, *parts: Apply) -> None:
        self._parts = parts

    async def __call__(self, events: Sequence[dict[str, Any]]) -> None:
        await asyncio.gather(*(part(events) for part in self._parts))


class Count:
    """Hot sums in a dictionary: what is lost with the process."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, int, str]] = Counter()

    async def __call__(self, events: Sequence[dict[str, Any]]) -> None:
        for e in events:
            if weight := WEIGHTS.get(e["type"]):
                self.sums[e.get("scenario", "-"), e["occurred_at"] // BUCKET_MS, e["item_id"]] += weight


async def loop(brokers: str, topic: str, events: int, apply: Apply) -> None:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, group_id=f"loop-{time.time_ns()}", auto_offset_reset="earliest",
        enable_auto_commit=False, max_partition_fetch_bytes=4 << 20,
    )  # fmt: skip
    await consumer.start()
    read = 0
    while read < events:
        found = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        batch = [orjson.loads(m.value) for part in found.values() for m in part]
        if batch:
            await apply(batch)
            await consumer.commit()
        read += len(batch)
    await consumer.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=("sink", "all", "count"))
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--clickhouse", default="")
    parser.add_argument("--table", default="loop")
    parser.add_argument("--redis", default="")
    args = parser.parse_args()
    make: dict[str, Callable[[], Apply]] = {
        "sink": lambda: Sink(args.clickhouse, args.table),
        "all": lambda: Both(Sink(args.clickhouse, args.table), State(args.redis)),
        "count": Count,
    }
    apply = make[args.name]()
    print("ready", flush=True)
    sys.stdin.readline()
    began, used = time.perf_counter(), time.process_time()
    asyncio.run(loop(args.brokers, args.topic, args.events, apply))
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
