"""The hot score with bytewax: state in memory, no recovery."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

WEIGHTS = {"click": 1, "play": 1, "comment": 2, "like": 2, "favourite": 3, "share": 3, "cart": 4, "purchase": 5}
BUCKET_MS = 300_000


class Ended(Exception):
    """Every event was counted."""


class Counter(StatelessSinkPartition[Any]):
    def __init__(self, events: int) -> None:
        self._left, self._first = events, (0.0, 0.0)

    def write_batch(self, items: list[Any]) -> None:
        if not self._first[0]:
            self._first = (time.perf_counter(), time.process_time())
        self._left -= len(items)
        if self._left <= 0:
            began, used = self._first
            print(json.dumps({"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}), flush=True)
            raise Ended


class Sink(DynamicSink[Any]):
    def __init__(self, events: int) -> None:
        self._events = events

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Counter:
        return Counter(self._events)


def add(total: int | None, weight: int) -> tuple[int, int]:
    found = (total or 0) + weight
    return found, found


def keyed(message: Any) -> tuple[str, int]:
    event = orjson.loads(message.value)
    bucket = event["occurred_at"] // BUCKET_MS
    return f"{event.get('scenario', '-')}/{bucket}/{event['item_id']}", WEIGHTS.get(event["type"], 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    args = parser.parse_args()
    flow = Dataflow("hot")
    read = kop.input("read", flow, brokers=[args.brokers], topics=[args.topic], tail=False, batch_size=1000)
    sums = op.stateful_map("add", op.map("parse", read.oks, keyed), add)
    op.output("out", sums, Sink(args.events))
    try:
        run_main(flow)
    except Ended:
        return
    except Exception as e:
        if not isinstance(e.__cause__, Ended):
            raise


if __name__ == "__main__":
    main()
