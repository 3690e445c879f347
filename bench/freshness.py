"""How soon the running system knows: a click changes the same user's next answer; an item's write makes it
recommendable. Both are polled over HTTP, so that a figure is at most one poll too large."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from ray_app.launch import House, free_port

ITEMS = 400
LIMITS_S = {"click": 1.0, "item": 5.0}
MOST_S = 30.0
POLL_S = 0.005


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


def thing(k: int) -> dict[str, Any]:
    group = k % 20
    return {"item_id": f"i{k}", "type": "item", "title": f"thing {k} of group {group}", "category": f"group {group}"}


def click(client: Client, trial: int) -> float:
    """Seconds from the sending of a click on the first item shown until the answer leaves it out, as seen."""
    user = f"reader-{trial}"
    before = client.shown(user)
    event = {"event_id": f"click-{trial}", "user_id": user, "item_id": before[0], "type": "click",
             "occurred_at": time.time_ns() // 1_000_000}  # fmt: skip
    began = time.perf_counter()
    client.post("/api/v1/behaviors", {"behaviors": [event]})
    return _until(lambda: before[0] not in client.shown(user), began)


def item(client: Client, trial: int) -> float:
    """Seconds from the sending of a new item until it is recommended to somebody who asks for it alone."""
    new = thing(100_000 + trial)
    wanted = {"field": "item_id", "op": "eq", "value": new["item_id"]}
    began = time.perf_counter()
    client.post("/api/v1/items", {"items": [new]})
    return _until(lambda: client.shown("anybody", wanted) == [new["item_id"]], began)


def _until(true: Callable[[], bool], began: float) -> float:
    """Infinity when it is not true within MOST_S."""
    while not true():
        if time.perf_counter() - began > MOST_S:
            return float("inf")
        time.sleep(POLL_S)  # a poll of another process, not a race
    return time.perf_counter() - began


def measure(client: Client, trials: int) -> dict[str, Any]:
    things = [thing(k) for k in range(ITEMS)]
    client.post("/api/v1/items", {"items": things}, wait="true")
    found: dict[str, Any] = {}
    for name, one in (("click", click), ("item", item)):
        one(client, trials)  # warms up
        seconds = [one(client, k) for k in range(trials)]
        p50, p99 = np.percentile(seconds, [50, 99])
        found[name] = {"trials": trials, "p50_s": round(float(p50), 3), "p99_s": round(float(p99), 3),
                       "most_s": round(max(seconds), 3), "limit_s": LIMITS_S[name]}  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=150)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemo-freshness-") as folder:
        data = Path(folder)
        house = House(data, free_port(), free_port())
        house.start()
        try:
            house.wait_ready()
            found = measure(Client(house, data), args.trials)
        finally:
            house.stop()
    print(f"{'':8}{'trials':>8}{'p50 s':>8}{'p99 s':>8}{'most s':>8}{'limit s':>9}")
    for name, f in found.items():
        print(f"{name:8}{f['trials']:8}{f['p50_s']:8.3f}{f['p99_s']:8.3f}{f['most_s']:8.3f}{f['limit_s']:9}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
