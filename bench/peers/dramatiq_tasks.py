"""Dramatiq's side of bench/tasks.py, in an environment of its own: `dramatiq_tasks.py NAME N` enqueues and prints the
seconds; as a module of `dramatiq` it is the worker. REDIS_URL says where. Results are kept, as ours are."""

import json
import os
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

URL = os.environ["REDIS_URL"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)
redis = Redis.from_url(URL)


@dramatiq.actor
def noop() -> None:
    pass


@dramatiq.actor
def ten_ms() -> None:
    time.sleep(0.01)


@dramatiq.actor
def stamp(seconds: float) -> None:
    redis.rpush("started", time.time())
    time.sleep(seconds)


def main(name: str, n: int) -> None:
    """For `stamp` the seconds from each enqueueing to its start, else those until all are done."""
    began, seconds = time.time(), []
    for _ in range(n):
        asked = time.time()
        {"noop": noop, "ten_ms": ten_ms, "stamp": stamp}[name].send(*([0.0] if name == "stamp" else []))
        if name == "stamp":
            seconds.append(float(redis.blpop(["started"], 30)[1]) - asked)
    while redis.hlen("dramatiq:default.msgs"):
        time.sleep(0.005)
    print(json.dumps(seconds or [time.time() - began]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
