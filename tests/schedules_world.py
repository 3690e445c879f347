"""A scheduler over a real Redis and the real queue, with a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ray_app.clock import Clock, FixedClock
from ray_app.config import Scheduler as Settings
from ray_app.tasks.policy import Entry
from ray_app.tasks.schedule import parse, written
from ray_app.tasks.scheduler import Hook, Scheduler
from ray_app.tasks.schedules import Schedules
from ray_app.tasks.work import Fail, Handler, Run
from tests.tasks_world import TasksWorld, settings_of

KEEP = 5000


def at(text: str) -> int:
    """Milliseconds of an ISO 8601 time."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


START = at("2026-11-28T00:00:00Z")


class Anything(BaseModel):
    n: int = 0


async def works(ask: Anything, run: Run) -> dict[str, int]:
    return {"n": ask.n}


async def fails(ask: Anything, run: Run) -> None:
    raise Fail("it always does")


HANDLERS = (
    Handler(works, Anything, aliases=("old.tasks.works", "old.more.*"), positional=("n",)),
    Handler(fails, Anything),
)


async def _goes_on(step: str) -> None:
    """No abort."""


class World:
    """`clock` is the scheduler's alone; Redis and the queue have the machine's."""

    def __init__(self, redis_url: str, data: Path, clock: Clock | None = None) -> None:
        self.tasks = TasksWorld(settings_of(redis_url, data), HANDLERS, dict)
        self.fixed = FixedClock(START)
        self.clock = clock or self.fixed
        self.redis, self.queue = self.tasks.redis, self.tasks.queue
        self.schedules = Schedules(self.redis, self.tasks.settings.stores.redis_prefix, self.clock, KEEP)

    def scheduler(
        self, owner: str = "one", hook: Hook = _goes_on, lease_s: float = 600.0, workers_s: float = 0.0
    ) -> Scheduler:
        settings = Settings(lease_s=lease_s, workers_s=workers_s)
        return Scheduler(self.schedules, self.queue, settings, self.clock, owner, hook)

    async def put(self, id: str = "a", **fields: Any) -> None:
        timing = {} if "every_s" in fields else {"cron": "* * * * *"}
        await self.schedules.put(parse({"id": id, "handler": "works", **timing, **fields}))

    async def pass_to(self, scheduler: Scheduler, text: str, step_s: float = 30.0) -> None:
        """Time goes on in steps, with turns between them."""
        while self.fixed.at < at(text):
            self.fixed.at = min(at(text), self.fixed.at + int(step_s * 1000))
            await settled(scheduler)

    async def ledger(self, id: str = "a") -> list[Entry]:
        """The oldest first."""
        return (await self.schedules.ledger(id, KEEP))[::-1]

    async def told(self, id: str = "a") -> dict[str, str]:
        """What became of each due instant."""
        return {written(e.at): str(e.why) for e in await self.ledger(id)}

    async def started(self, id: str = "a") -> list[str]:
        """Due instants that have a task, by their time."""
        keys = [k.decode() async for k in self.redis.scan_iter(f"{self.queue.prefix}:task:{id}@*", count=10_000)]
        return sorted(k.rpartition("@")[2] for k in keys)

    async def close(self) -> None:
        await self.tasks.close()


async def settled(scheduler: Scheduler) -> None:
    """Turns until there is nothing to do."""
    while await scheduler.turn() == 0.0:
        pass


Open = Callable[..., Awaitable[World]]
