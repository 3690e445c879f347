"""The slots' side of the queue's script, done by hand, so that a test decides who claims what and how it ends."""

from __future__ import annotations

import time
from typing import Any

from ray_app.clock import SystemClock, new_id
from ray_app.config import Tasks
from ray_app.stores.redis import connect as connect_async
from ray_app.stores.redis_sync import connect
from ray_app.tasks.queue import Queue
from ray_app.tasks.script import SCRIPT, arguments, fields_of, task_of
from ray_app.tasks.task import Submission, Task
from tests.crash.handlers import HANDLERS

QUEUES = "high_priority:10+default:5+low_priority:1"
LEASE_MS = 60_000
Claimed = tuple[Task, str]


class Hands:
    """One slot by turns, with a Redis client of its own. `known`: names of handlers that its worker has."""

    def __init__(
        self, url: str, known: tuple[str, ...] = (), settings: Tasks | None = None, script: str = SCRIPT
    ) -> None:
        self.redis, self.prefix, self.settings = connect(url), "lemo:tasks", settings or Tasks()
        self.queue = Queue(connect_async(url), "lemo", self.settings, SystemClock(), HANDLERS)
        self._script = self.redis.register_script(script)
        self._slot, self._claims, self.lease_ms = new_id(), 0, LEASE_MS
        names = known or tuple(h.name for h in HANDLERS)
        self.known = f"{self.prefix}:known:{self._slot}"
        self.redis.sadd(self.known, *names)
        self.rates: dict[str, Any] = {}

    def call(self, op: str, ask: Any) -> Any:
        return self._script(keys=[self.prefix], args=arguments(op, self.settings.result_keep_s, ask))

    def submit(self, *asked: Submission) -> list[str]:
        return [i.decode() for i in self.call("submit", [self.queue._made(s) for s in asked])]

    def claim(self, queues: str = QUEUES, pool: str = "general") -> Claimed | None:
        self._claims += 1
        return self.claim_as(f"{self._slot}.{self._claims}", queues, pool)

    def claim_as(self, token: str, queues: str = QUEUES, pool: str = "general") -> Claimed | None:
        asked = {
            "slot": self._slot, "pool": pool, "queues": queues, "known": self.known, "lease": self.lease_ms,
            "rates": self.rates, "token": token,
        }  # fmt: skip
        answer = self.call("turn", {"claim": asked})
        return (task_of(fields_of(answer[2])), token) if len(answer) > 2 else None

    def finish(self, claimed: Claimed, outcome: str, **more: Any) -> bool:
        told = {"error": "", "result": "", "dead": False, "due": 0, "after": [], "following": "", **more}
        finish = {"id": claimed[0].id, "token": claimed[1], "outcome": outcome, **told}
        return bool(self.call("turn", {"finish": finish})[0])

    def reap(self) -> list[str]:
        """What has lost its lease, when there is something. A Redis that has just begun gives nothing away yet."""
        while not (found := self.call("reap", {"lease": 1})):
            time.sleep(0.01)  # until leases of 1 ms have ended
        return [i.decode() for i in found]

    def task(self, id: str) -> Task:
        found: Any = self.redis.hgetall(f"{self.prefix}:task:{id}")
        return task_of({k.decode(): v.decode() for k, v in found.items()})

    def close(self) -> None:
        self.redis.close()
