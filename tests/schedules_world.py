"""A scheduler over a real Redis with a clock that is moved by hand, and the tasks that it submits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_app.clock import FixedClock
from ray_app.config import Scheduler as Settings
from ray_app.errors import InvalidField, NotFound
from ray_app.tasks import scheduler
from ray_app.tasks.scheduler import Hook, Scheduler
from ray_app.tasks.schedules import Schedules
from ray_app.tasks.task import State, Submission, Task

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "t"
SETTINGS = Settings(lease_s=600, workers_s=0)


class Taken:
    """Durable, idempotent by id."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.handlers = ()

    async def submit(self, *asked: Submission) -> list[str]:
        for a in asked:
            if a.name == "unknown":
                raise InvalidField("name", a.name, "known")
        for a in asked:
            body = {"name": a.name, "tenant": a.tenant, "argument": dict(a.argument), "after": a.after, "group": a.group}
            if await self._redis.hsetnx(f"{PREFIX}:task:{a.id}", "body", json.dumps(body)):
                await self._redis.hset(f"{PREFIX}:task:{a.id}", "state", "PENDING")
                await self._redis.rpush(f"{PREFIX}:taken", a.id)
        return [a.id or "" for a in asked]

    async def get(self, id: str) -> Task:
        found: Any = await self._redis.hgetall(f"{PREFIX}:task:{id}")
        if not found:
            raise NotFound(f"no {id}")
        b = json.loads(found[b"body"])
        return Task(id, b["name"], b["tenant"], "default", b["argument"], State(found[b"state"].decode()), after=tuple(b["after"]), group=b["group"])

    async def cancel(self, id: str) -> State:
        await self.end(id, State.REVOKED)
        return State.REVOKED

    async def end(self, id: str, state: State = State.SUCCESS) -> None:
        await self._redis.hset(f"{PREFIX}:task:{id}", "state", state.value)

    async def all(self) -> list[str]:
        found: Any = await self._redis.lrange(f"{PREFIX}:taken", 0, -1)
        return [x.decode() for x in found]
