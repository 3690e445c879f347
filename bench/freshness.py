"""How soon the running system knows: a click changes the same user's next answer; an item's write makes it
recommendable. Both are polled over HTTP, so that a figure is at most one poll too large.

With `--kafka` the event log is a Kafka broker. Clicks and items are then produced straight to it, beside 1,000
behaviours a second of others, for `--seconds`; all other stores are embedded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import orjson

from bench.machine import replica
from bench.produce import Producer
from ray_app.config import Settings
from ray_app.events.base import Entry
from ray_app.launch import House
from ray_app.stores.embedded import free_port
from tests.services.kafka import KafkaBroker

ITEMS = 400
LIMITS_S = {"click": 1.0, "item": 5.0}
MOST_S = 30.0
POLL_S = 0.005
RATE = 1000
WARM = 20


class Sender(Protocol):
    """Where others tell the system of a click and of an item."""

    def click(self, event: dict[str, Any]) -> None: ...
    def item(self, item: dict[str, Any]) -> None: ...


class Client:
    """Of the HTTP door, with the demo key."""

    def __init__(self, house: House, data: Path) -> None:
        key = (data / "demo.key").read_text().strip()
        self._http = httpx.Client(base_url=house.url, headers={"X-API-Key": key}, timeout=15)

    def post(self, path: str, body: dict[str, Any], **params: str) -> dict[str, Any]:
        answer = self._http.post(path, json=body, params=params)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def shown(self, user: str, *filters: dict[str, Any]) -> list[str]:
        body = {"scenario": "home", "user_id": user, "n": 10, "filters": list(filters)}
        return [i["item_id"] for i in self.post("/api/v1/recommend", body)["items"]]

    def click(self, event: dict[str, Any]) -> None:
        self.post("/api/v1/behaviors", {"behaviors": [event]})

    def item(self, item: dict[str, Any]) -> None:
        self.post("/api/v1/items", {"items": [item]})


class Kafka:
    """Straight to the topics, as other producers do; returns when the broker has it."""

    def __init__(self, producer: Producer) -> None:
        self._producer, self._events = producer, Settings().events

    def click(self, event: dict[str, Any]) -> None:
        body = orjson.dumps({"tenant": "demo", **event})
        self._producer.send(self._events.behavior_topic, [Entry(f"demo/{event['user_id']}", body)])

    def item(self, item: dict[str, Any]) -> None:
        body = orjson.dumps({"event_type": "create", "tenant_id": "demo", "data": item})
        self._producer.send(self._events.item_topic, [Entry(f"demo/{item['item_id']}", body)])


def thing(k: int) -> dict[str, Any]:
    group = k % 20
    return {"item_id": f"i{k}", "type": "item", "title": f"thing {k} of group {group}", "category": f"group {group}"}


def click(client: Client, sender: Sender, trial: int) -> float:
    """Seconds from the sending of a click on the first item shown until the answer leaves it out, as seen."""
    user = f"reader-{trial}"
    before = client.shown(user)
    event = {"event_id": f"click-{trial}", "user_id": user, "item_id": before[0], "type": "click",
             "occurred_at": time.time_ns() // 1_000_000}  # fmt: skip
    began = time.perf_counter()
    sender.click(event)
    return _until(lambda: before[0] not in client.shown(user), began)


def item(client: Client, sender: Sender, trial: int) -> float:
    """Seconds from the sending of a new item until it is recommended to somebody who asks for it alone."""
    new = thing(100_000 + trial)
    wanted = {"field": "item_id", "op": "eq", "value": new["item_id"]}
    began = time.perf_counter()
    sender.item(new)
    return _until(lambda: client.shown("anybody", wanted) == [new["item_id"]], began)


def _until(true: Callable[[], bool], began: float) -> float:
    """Infinity when it is not true within MOST_S."""
    while not true():
        if time.perf_counter() - began > MOST_S:
            return float("inf")
        time.sleep(POLL_S)  # a poll of another process, not a race
    return time.perf_counter() - began


def measure(client: Client, sender: Sender, trials: Iterator[int]) -> dict[str, Any]:
    """A click and an item, one after the other, for each of `trials`."""
    client.post("/api/v1/items", {"items": [thing(k) for k in range(ITEMS)]}, wait="true")
    seconds: dict[str, list[float]] = {"click": [], "item": []}
    for k in range(WARM):
        click(client, sender, -1 - k)
        item(client, sender, -1 - k)
    for k in trials:
        seconds["click"].append(click(client, sender, k))
        seconds["item"].append(item(client, sender, k))
    found: dict[str, Any] = {}
    for name, those in seconds.items():
        p50, p99 = np.percentile(those, [50, 99])
        found[name] = {"trials": len(those), "p50_s": round(float(p50), 3), "p99_s": round(float(p99), 3),
                       "most_s": round(max(those), 3), "limit_s": LIMITS_S[name]}  # fmt: skip
    return found


def by_door(data: Path, house: House, trials: int) -> dict[str, Any]:
    house.start()
    house.wait_ready()
    client = Client(house, data)
    return measure(client, client, iter(range(trials)))


def by_kafka(data: Path, house: House, seconds: float) -> dict[str, Any]:
    (data / "kafka").mkdir()
    broker = KafkaBroker(data / "kafka")
    broker.start()
    try:
        house.start({"LEMO_EVENTS_KAFKA_URL": broker.url})
        house.wait_ready()
        topic = Settings().events.behavior_topic
        with Producer(broker.url, topic, RATE) as producer:
            began = time.monotonic()
            found = measure(Client(house, data), Kafka(producer), _lasting(seconds))
            found["behaviours_per_s"] = round(producer.appended / (time.monotonic() - began))
        found["pool_mb"] = round(replica(house).memory_info().rss / 1e6)
        return found
    finally:
        broker.kill()


def _lasting(seconds: float) -> Iterator[int]:
    ends = time.monotonic() + seconds
    for k in count():
        if time.monotonic() > ends:
            return
        yield k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--kafka", action="store_true")
    parser.add_argument("--seconds", type=float, default=300.0, help="with --kafka")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemo-freshness-") as folder:
        data = Path(folder)
        house = House(data, free_port(), free_port())
        try:
            found = by_kafka(data, house, args.seconds) if args.kafka else by_door(data, house, args.trials)
        finally:
            house.stop()
    print(f"{'':8}{'trials':>8}{'p50 s':>8}{'p99 s':>8}{'most s':>8}{'limit s':>9}")
    for name in LIMITS_S:
        f = found[name]
        print(f"{name:8}{f['trials']:8}{f['p50_s']:8.3f}{f['p99_s']:8.3f}{f['most_s']:8.3f}{f['limit_s']:9}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
