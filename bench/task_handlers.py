"""The guard of bench/tasks.py: `python -m bench.task_handlers`. Its tasks are those of the peers."""

from __future__ import annotations

import time
from functools import cache

from pydantic import BaseModel
from redis import Redis

from ray_app.tasks.work import Handler, Run
from ray_app.wiring.guard import serve


class Nothing(BaseModel):
    pass


class Stamp(BaseModel):
    """`url`: of the Redis in which the list `started` is."""

    url: str
    seconds: float = 0.0


@cache
def client(url: str) -> Redis:
    return Redis.from_url(url)


def noop(ask: Nothing, run: Run) -> None:
    pass


def ten_ms(ask: Nothing, run: Run) -> None:
    time.sleep(0.01)


def stamp(ask: Stamp, run: Run) -> None:
    """Says when it began."""
    client(ask.url).rpush("started", time.time())
    time.sleep(ask.seconds)


HANDLERS = (Handler(noop, Nothing), Handler(ten_ms, Nothing), Handler(stamp, Stamp))

if __name__ == "__main__":
    serve(HANDLERS)
