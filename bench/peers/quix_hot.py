"""The hot score with quix-streams: state in RocksDB, backed by a changelog topic, at least once.

The topic's key is the item, so that a sum is the state of one key: the form that suits this engine best.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from typing import Any

from quixstreams import Application

WEIGHTS = {"click": 1, "play": 1, "comment": 2, "like": 2, "favourite": 3, "share": 3, "cart": 4, "purchase": 5}
BUCKET_MS = 300_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    app = Application(
        broker_address=args.brokers, consumer_group=f"quix-{time.time_ns()}", auto_offset_reset="earliest",
        state_dir=tempfile.mkdtemp(prefix="quix-"), loglevel="ERROR",
    )  # fmt: skip
    first: list[tuple[float, float]] = []

    def add(event: dict[str, Any], state: Any) -> None:
        if not first:
            first.append((time.perf_counter(), time.process_time()))
        weight = WEIGHTS.get(event["type"])
        if weight:
            key = f"{event.get('scenario', '-')}/{event['occurred_at'] // BUCKET_MS}"
            state.set(key, state.get(key, 0) + weight)

    frame = app.dataframe(app.topic(args.topic, value_deserializer="json", key_deserializer="str"))
    frame.update(add, stateful=True)
    app.run(count=args.events)
    began, used = first[0]
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
