"""Celery's side of bench/tasks.py; REDIS_URL, PREFETCH and VISIBILITY_S say how. Results are kept, as ours are."""

from __future__ import annotations

import os
import time

from celery import Celery
from redis import Redis

URL = os.environ["REDIS_URL"]
app = Celery("bench", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=int(os.environ["PREFETCH"]), task_serializer="json",
    broker_transport_options={"visibility_timeout": float(os.environ.get("VISIBILITY_S", "3600"))},
    broker_connection_retry_on_startup=True,
)  # fmt: skip
redis = Redis.from_url(URL)


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    pass


@app.task(name="ten_ms")  # type: ignore[untyped-decorator]
def ten_ms() -> None:
    time.sleep(0.01)


@app.task(name="stamp")  # type: ignore[untyped-decorator]
def stamp(seconds: float) -> None:
    redis.rpush("started", time.time())
    time.sleep(seconds)


def left() -> int:
    return int(redis.llen("celery") + redis.hlen("unacked"))  # type: ignore[operator]
