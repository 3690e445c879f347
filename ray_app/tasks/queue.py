"""The durable queue in Redis: what is submitted, claimed, renewed and finished; each of these is one Lua call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray_app.clock import Clock
from ray_app.config import Tasks
from ray_app.tasks.task import State, Submission, Task
from ray_app.tasks.work import Handler

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Queue:
    """What producers and operators do; slots have their own side of it (slot.py)."""

    def __init__(self, redis: Redis, prefix: str, settings: Tasks, clock: Clock, handlers: Sequence[Handler]) -> None:
        self._redis, self._prefix, self._settings, self._clock = redis, prefix, settings, clock
        self.handlers = handlers

    async def submit(self, *asked: Submission) -> list[str]:
        """The ids, in order; once returned the tasks are durable. All or none of one call. Raises UnknownTask naming
        the known ones, InvalidField for an argument that the handler's class refuses, BodyTooLarge, Unavailable."""
        raise NotImplementedError

    async def get(self, id: str) -> Task:
        """Raises NotFound, also for a task whose result has expired."""
        raise NotImplementedError

    async def log(self, id: str) -> list[str]:
        """The lines of its runs."""
        raise NotImplementedError

    async def wait(self, id: str, timeout_s: float) -> Task:
        """The task when it has ended, or as it is after `timeout_s`."""
        raise NotImplementedError

    async def cancel(self, id: str) -> State:
        """REVOKED at once where it waits; where it runs its handler gets Revoked and the state follows. What has ended
        stays. Raises NotFound."""
        raise NotImplementedError

    async def lengths(self) -> Mapping[str, Any]:
        """By queue: {"length", "oldest_s", "scheduled", "reserved", "active"}."""
        raise NotImplementedError

    async def find(self, states: Iterable[State], tenant: str | None = None, most: int = 100) -> list[Task]:
        """The newest first."""
        raise NotImplementedError

    async def dead(self, most: int = 100) -> list[Task]:
        """Dead letters: tasks that ended as FAILURE after their last try, the newest first."""
        raise NotImplementedError

    async def replay(self, *ids: str) -> list[str]:
        """Dead letters begin again, with all their tries; the ids of those that were dead letters."""
        raise NotImplementedError
