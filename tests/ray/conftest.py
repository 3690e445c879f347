"""One whole system for the session: started as `lemo up` starts it, on free ports, in its own folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ray_app.launch import House
from ray_app.stores.embedded import free_port

ITEMS = 120


class Shop:
    """The running system and a client of its HTTP door."""

    def __init__(self, house: House, data: Path) -> None:
        self.house, self.data = house, data
        self.key = (data / "demo.key").read_text().strip()
        self.http = httpx.Client(base_url=house.url, headers={"X-API-Key": self.key}, timeout=15)
        self.sent: dict[str, dict[str, object]] = {}

    def post(self, path: str, body: object, **params: str) -> httpx.Response:
        return self.http.post(path, json=body, params=params)

    def recommend(self, user: str = "nobody", n: int = 5) -> httpx.Response:
        return self.post("/api/v1/recommend", {"scenario": "home", "user_id": user, "n": n})

    def behave(self, event_id: str, user: str, item: str, type: str = "purchase") -> httpx.Response:
        """One behaviour; it counts as sent only when the answer acknowledged it."""
        event = {"event_id": event_id, "user_id": user, "item_id": item, "type": type, "scenario": "home"}
        event["occurred_at"] = time.time_ns() // 1_000_000
        answer = self.post("/api/v1/behaviors", {"behaviors": [event]})
        if answer.status_code == 200 and answer.json()["accepted"] == 1:
            self.sent[event_id] = event
        return answer

    @property
    def dashboard(self) -> str:
        """Where Ray's own tools find this cluster."""
        return (self.data / "dashboard.url").read_text().strip()

    def pids(self, words: str) -> list[psutil.Process]:
        """Processes of this start whose command line has these words."""
        found = []
        for p in self.house.processes():
            try:
                if words in " ".join(p.cmdline()):
                    found.append(p)
            except psutil.Error:
                continue
        return found


def until(what: Callable[[], object], timeout_s: float = 60.0) -> object:
    """Poll until the value is true; the last value or error is in the failure."""
    deadline, last = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        try:
            last = what()
            if last:
                return last
        except (httpx.HTTPError, psutil.Error, KeyError, OSError) as e:
            last = e
        time.sleep(0.1)
    raise AssertionError(f"not true within {timeout_s} s; last: {last!r}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters of one test or module first: while the session's one runs, no other takes jobs (launch.JOBS_PORT)."""
    items.sort(key=lambda item: "shop" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    data = tmp_path_factory.mktemp("lemo")
    house = House(data, free_port(), free_port())
    here = {"LEMO_CONTENT_ALLOW_HOSTS": "127.0.0.1", "LEMO_CONTENT_DELAY_S": "0"}  # the tests' own web server
    house.start({"RAY_TMPDIR": f"/tmp/lemo-ray-{os.getpid()}", **here})
    try:
        house.wait_ready(240)
        shop = Shop(house, data)
        items = [
            {"item_id": f"i{k}", "type": "item", "title": f"THING {k} OF KIND {k % 7}", "category": f"kind {k % 7}"}
            for k in range(ITEMS)
        ]
        answer = shop.post("/api/v1/items", {"items": items}, wait="true")
        assert answer.json()["accepted"] == ITEMS, answer.text
        yield shop
    finally:
        house.stop()
