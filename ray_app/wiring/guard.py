"""The process of a guard: `python -m ray_app.wiring.guard`, with the settings and a pool's name as its first line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from ray_app import logs
from ray_app.config import Settings
from ray_app.stores.embedded import addresses
from ray_app.stores.redis_sync import connect
from ray_app.tasks.guard import Guard
from ray_app.tasks.names import Names
from ray_app.tasks.pools import pools
from ray_app.tasks.script import prefix_of, workers_key
from ray_app.tasks.slot import Trade
from ray_app.tasks.work import Handler
from ray_app.tasks.worker import Worker
from ray_app.wiring.handlers import HANDLERS
from ray_app.wiring.stores import world


def worker(settings: Settings, pool: str, module: str = __name__) -> Worker:
    """A worker of this pool. `module`: whose `main` is run in the guard's process."""
    first = orjson.dumps({"settings": settings.model_dump_json(), "pool": pool})
    return Worker([sys.executable, "-m", module], first, settings.tasks.lease_s)


def trade(settings: Settings, handlers: Sequence[Handler]) -> Trade:
    """What the slots of one process work with. The embedded Redis is asked for where it is now."""
    s = settings.stores
    return Trade(
        lambda: connect(s.redis_url or addresses(settings.data).redis_url),
        prefix_of(s.redis_prefix), settings.tasks, Names(handlers), lambda: world(settings),
    )  # fmt: skip


def serve(handlers: Sequence[Handler]) -> None:
    """Be a guard, until standard input ends."""
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what comes behind it is read by the guard
        line += os.read(0, 1)
    asked = orjson.loads(line)
    settings = Settings.model_validate_json(asked["settings"])
    logs.start(settings.logs.level)
    os.set_blocking(1, False)  # a worker that does not read may not hold us up: our slots' leases would run out

    def say(word: dict[str, Any]) -> None:
        with suppress(OSError):  # the worker is gone: the end of our input says it too
            os.write(1, orjson.dumps(word) + b"\n")

    Guard(
        pools(settings.tasks)[asked["pool"]], trade(settings, handlers), workers_key(settings.stores.redis_prefix), 0,
        say,
    ).run()  # fmt: skip


if __name__ == "__main__":
    serve(HANDLERS)
