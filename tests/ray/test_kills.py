"""kill -9 of each part under load: answers go on or say why not; no acknowledged behaviour is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import redis

from ray_app.clock import SystemClock
from ray_app.stores.embedded import addresses
from ray_app.stores.redis import connect
from ray_app.tasks.schedule import Schedule
from ray_app.tasks.schedules import Schedules
from ray_app.wiring.schedules import DEFAULTS
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


def test_the_scheduler_comes_back_and_no_due_time_is_lost(shop: Shop) -> None:
    """Its task has no handler: each second is refused, and named in the ledger all the same."""

    async def with_schedules(work: Callable[[Schedules], Awaitable[Any]]) -> Any:
        redis = connect(addresses(shop.data).redis_url)
        try:
            return await work(Schedules(redis, "lemo", SystemClock()))
        finally:
            await redis.aclose()

    def seconds() -> list[int]:
        """The oldest first."""
        entries = asyncio.run(with_schedules(lambda s: s.ledger("each-second", 1000)))
        return [e.at // 1000 for e in entries][::-1]

    each = Schedule(id="each-second", handler="nobody", every_s=1, coalesce="all", most=1000, overlap="allow")
    asyncio.run(with_schedules(lambda s: s.put(each)))
    try:
        until(lambda: len(seconds()) > 2, 60)  # a worker was seen
        (old,) = shop.pids("ray::Scheduler")
        old.kill()
        at = SystemClock().now() // 1000
        until(lambda: seconds()[-1] > at + 2, 60)
        named = seconds()
        assert named == list(range(named[0], named[-1] + 1))
        assert len(asyncio.run(with_schedules(lambda s: s.find([d.id for d in DEFAULTS])))) == len(DEFAULTS)
    finally:
        asyncio.run(with_schedules(lambda s: s.delete("each-second")))
