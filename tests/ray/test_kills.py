"""kill -9 of each part under load: answers go on or say why not; no acknowledged behaviour is lost or doubled."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable

import httpx
import psutil
import pytest
import redis

from ray_app.stores.embedded import addresses
from tests.ray.conftest import Shop, until


def no_replica_answered(answer: httpx.Response) -> bool:
    """The page that Ray's ingress makes of 502 to 504. A server's own has a charset, a date and more headers."""
    page = {"content-type": "text/plain", "content-length": "21"}
    return answer.status_code == 500 and dict(answer.headers) == page and answer.text == "Internal Server Error"


class Load(threading.Thread):
    """Sends behaviours and asks for recommendations until it is stopped; every event is sent twice."""

    def __init__(self, shop: Shop, name: str) -> None:
        super().__init__(daemon=True)
        self.shop, self.label = shop, name
        self.answers: Counter[int] = Counter()
        self.errors: list[str] = []  # of calls that had no answer, which count as 0
        self.enough = threading.Event()

    def run(self) -> None:
        k = 0
        while not self.enough.is_set():
            for _ in range(2):
                self._try(lambda k=k: self.shop.behave(f"{self.label}-{k}", f"u{k % 9}", f"i{k % 50}"))
            self._try(lambda k=k: self.shop.recommend(f"u{k % 9}"))
            k += 1

    def _try(self, call: Callable[[], httpx.Response]) -> None:
        try:
            answer = call()
            lost = no_replica_answered(answer)
            self.answers[0 if lost else answer.status_code] += 1
            self.errors += [repr(answer)] * lost
        except httpx.HTTPError as e:
            self.answers[0] += 1
            self.errors.append(repr(e))


def hot_purchases(shop: Shop) -> int:
    """Sum of all weights in the all-scenarios hot buckets of tenant demo, divided by the weight of a purchase."""
    client = redis.Redis.from_url(addresses(shop.data).redis_url)
    total = 0
    for key in client.scan_iter("lemo:hot:demo:home:*", count=1000):
        total += sum(int(v) for v in client.hvals(key))
    client.close()
    return total // 5


@pytest.mark.parametrize(
    "words", ["redis-server", "chdb_server", "ServeReplica:recommender:Gateway", "ServeReplica:recommender:Streams"]
)
def test_a_kill_changes_no_count(shop: Shop, words: str) -> None:
    load = Load(shop, words.replace(":", "-"))
    load.start()
    until(lambda: load.answers[200] > 30)
    victims = shop.pids(words)
    assert victims, f"no process has {words!r} in its command line"
    before = {p.pid for p in victims}
    for p in victims:
        os.kill(p.pid, 9)
    until(lambda: {p.pid for p in shop.pids(words)} - before, 60)
    ready = load.answers[200] + 60
    until(lambda: load.answers[200] > ready, 60)
    load.enough.set()
    load.join()
    assert set(load.answers) <= {0, 200, 429, 503}, load.answers
    until(lambda: hot_purchases(shop) == len(shop.sent), 60)


def test_the_scheduler_comes_back(shop: Shop) -> None:
    (old,) = shop.pids("ray::Scheduler")
    old.kill()
    until(lambda: [p for p in shop.pids("ray::Scheduler") if p.pid != old.pid and p.status() != psutil.STATUS_ZOMBIE])
