"""The durable queue in Redis as producers and operators see it. Every change is one call of queue.lua."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from ray_app.clock import Clock, new_id
from ray_app.config import Tasks
from ray_app.errors import InvalidField, LemoError, NotFound, Unavailable
from ray_app.tasks.names import Names, checked, written
from ray_app.tasks.pools import NAME
from ray_app.tasks.script import SCRIPT, arguments, prefix_of, task_of
from ray_app.tasks.task import ENDED, State, Submission, Task
from ray_app.tasks.work import Handler, Retry

if TYPE_CHECKING:
    from redis.asyncio import Redis

POLL_S = 0.05
PAGE = 200
HEAD = 16  # of a queue: what goes on is put before what is older
MOST_TASKS = 10_000  # of one call
MOST_MS = 253_402_300_799_999  # the year 9999


class PayloadTooLarge(LemoError):
    """An argument or a result is larger than `tasks.max_payload_bytes`."""

    status, code, reason = 413, "RESOURCE_EXHAUSTED", "PAYLOAD_TOO_LARGE"

    def __init__(self, what: str, size: int, most: int) -> None:
        super().__init__(
            f"{what} has {size} bytes; allowed: {most} (tasks.max_payload_bytes). Put it into the blobs or the "
            "documents, and send its name",
            field=what, value=str(size), allowed=str(most),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One queue: how many wait, and for how long the oldest has since it could begin or go on."""

    queue: str
    length: int
    oldest_s: float


def retry_of(handler: Handler, settings: Tasks) -> Retry:
    return handler.retry or Retry(settings.retries, settings.retry_first_s, settings.retry_max_s, settings.retry_jitter)


class Queue:
    """What producers and operators do; slots have their own side of it (slot.py)."""

    def __init__(self, redis: Redis, prefix: str, settings: Tasks, clock: Clock, handlers: Sequence[Handler]) -> None:
        self._redis, self.prefix, self._settings, self._clock = redis, prefix_of(prefix), settings, clock
        self.names = Names(handlers)
        self._script = redis.register_script(SCRIPT)

    async def submit(self, *asked: Submission) -> list[str]:
        """The ids, in order; once returned the tasks are durable. All or none of one call, at most MOST_TASKS. Raises
        UnknownTask naming the known ones, InvalidField for an argument that the handler's class refuses or a task in
        `after` that is unknown, PayloadTooLarge, Unavailable."""
        if len(asked) > MOST_TASKS:
            raise InvalidField("tasks", len(asked), f"at most {MOST_TASKS} in one call")
        if not asked:
            return []
        found = [i.decode() for i in await self._call("submit", [self._made(s) for s in asked])]
        if found[0] == "":
            raise InvalidField("after", found[1], "ids of tasks that are known")
        return found

    def _made(self, s: Submission) -> dict[str, Any]:
        handler = self.names.of(s.name)
        argument = written(handler, s.argument)
        if len(argument) > self._settings.max_payload_bytes:
            raise PayloadTooLarge("argument", len(argument), self._settings.max_payload_bytes)
        if s.id is not None and not 1 <= len(s.id.encode()) <= 256:
            raise InvalidField("id", s.id, "1 to 256 bytes, or none")
        own = handler.queue_of(checked(handler, s.argument)) if handler.queue_of else handler.queue
        queue = s.queue or self._settings.routes.get(handler.name) or own
        if not NAME.fullmatch(queue):
            raise InvalidField("queue", queue, "1 to 64 of a-z, 0-9, _ and -")
        if not 0 <= s.eta <= MOST_MS:
            raise InvalidField("eta", s.eta, f"ms since 1970, to {MOST_MS}")
        return {
            "id": s.id or new_id(), "name": handler.name, "tenant": s.tenant, "argument": argument.decode(),
            "queue": queue, "eta": s.eta,
            "tries": retry_of(handler, self._settings).times + 1, "after": s.after, "whatever": int(s.whatever),
            "parent": s.parent, "group": s.group, "trace": s.trace, "key": s.key or "",
            "key_keep": self._settings.key_keep_s * 1000,
        }  # fmt: skip

    async def get(self, id: str) -> Task:
        """Raises NotFound, also for a task whose result has expired."""
        found = (await self.get_many([id])).get(id)
        if found is None:
            raise unknown(id)
        return found

    async def get_many(self, ids: Iterable[str]) -> dict[str, Task]:
        """Those that are known, by id."""
        wanted = list(ids)
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in wanted:
                pipe.hgetall(f"{self.prefix}:task:{id}")
            hashes: list[Any] = await pipe.execute()
        read = ({k.decode(): v.decode() for k, v in h.items()} for h in hashes)
        return {h["id"]: task_of(h) for h in read if h}

    async def log(self, id: str) -> list[str]:
        """The lines of its runs, the newest 1,000."""
        found: Any = await self._redis.lrange(f"{self.prefix}:log:{id}", 0, -1)
        return [line.decode() for line in found]

    async def wait(self, id: str, timeout_s: float) -> Task:
        """The task when it has ended, or as it is after `timeout_s`."""
        deadline, pause = self._clock.monotonic() + timeout_s, POLL_S
        while (task := await self.get(id)).state not in ENDED and self._clock.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 1.2)
        return task

    async def cancel(self, id: str) -> State:
        """REVOKED at once where it waits; where it runs its handler gets Revoked, and a job that it follows is stopped:
        the state follows. What has ended stays. So it is with what it submitted. Raises NotFound."""
        state = (await self._call("cancel", {"id": id})).decode()
        if not state:
            raise unknown(id)
        return State(state)

    async def lengths(self, queues: Iterable[str]) -> list[Line]:
        names = list(queues)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(f"{self.prefix}:queue:{name}")
                pipe.lrange(f"{self.prefix}:queue:{name}", 0, HEAD - 1)
            found = await pipe.execute()
        ready = await self._ready_at({id for head in found[1::2] for id in head})
        now = self._clock.now()
        return [
            Line(name, int(n), max([0.0, *((now - ready[id]) / 1000 for id in head if id in ready)]))
            for name, n, head in zip(names, found[::2], found[1::2], strict=True)
        ]

    async def _ready_at(self, ids: Collection[bytes]) -> dict[bytes, int]:
        """Since when (ms) each could begin, or go on; without those that are forgotten."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hget(f"{self.prefix}:task:{id.decode()}", "ready_at")
            found: list[Any] = await pipe.execute()
        return {id: int(at) for id, at in zip(ids, found, strict=True) if at}

    async def counts(self) -> Mapping[str, int]:
        """`open`, `delayed` (by ETA, retry, or a look at a job), `running`, `dead`, `unshipped` history."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in ("open", "delayed", "leases", "dead"):
                pipe.zcard(f"{self.prefix}:{key}")
            pipe.llen(f"{self.prefix}:history")
            found = await pipe.execute()
        return dict(zip(("open", "delayed", "running", "dead", "unshipped"), map(int, found), strict=True))

    async def find(
        self, states: Collection[State], tenant: str | None = None, most: int = 100, group: str | None = None
    ) -> list[Task]:
        """Those in one of `states`, the newest first; of one tenant or of a group where said."""
        keys = [k for k, of in (("open", set(State) - ENDED), ("ended", ENDED)) if of & set(states)]

        def fits(t: Task) -> bool:
            return t.state in states and tenant in (None, t.tenant) and group in (None, t.group)

        found = [t for key in keys async for t in self._newest(key, fits, most)]
        return sorted(found, key=lambda t: t.ended_at or t.submitted_at, reverse=True)[:most]

    async def dead(self, most: int = 100, tenant: str | None = None) -> list[Task]:
        """Dead letters: tasks that ended as FAILURE after their last try, the newest first."""
        return [t async for t in self._newest("dead", lambda t: tenant in (None, t.tenant), most)]

    async def _newest(self, key: str, fits: Callable[[Task], bool], most: int) -> AsyncIterator[Task]:
        given = 0
        for first in range(0, 1 << 40, PAGE):
            ids: Any = await self._redis.zrevrange(f"{self.prefix}:{key}", first, first + PAGE - 1)
            tasks = await self.get_many(i.decode() for i in ids)
            for task in (t for t in tasks.values() if fits(t)):
                yield task
                given += 1
                if given == most:
                    return
            if len(ids) < PAGE:
                return

    async def replay(self, *ids: str) -> list[str]:
        """Dead letters begin again, with all their tries; the ids of those that were dead letters."""
        return [i.decode() for i in await self._call("replay", {"ids": ids})]

    async def drop_dead(self, before: int) -> int:
        """Forget dead letters that ended before this time (ms); how many."""
        ids: Any = await self._redis.zrangebyscore(f"{self.prefix}:dead", "-inf", f"({before}")
        return len(await self.drop(*(i.decode() for i in ids)))

    async def drop(self, *ids: str) -> list[str]:
        """Forget dead letters; the ids of those that were some."""
        return [i.decode() for i in await self._call("drop", {"ids": ids})]

    async def _call(self, op: str, ask: Any) -> Any:
        try:
            return await self._script(keys=[self.prefix], args=arguments(op, self._settings.result_keep_s, ask))
        except RedisError as e:
            raise Unavailable(f"the state store did not take the call: {type(e).__name__}: {str(e)[:200]}") from e


def unknown(id: str) -> NotFound:
    return NotFound(f"task {id!r} is unknown, or it ended so long ago that it is forgotten", field="id", value=id)


def delay_s(retry: Retry, attempt: int, rng: random.Random) -> float:
    """Before the try that follows attempt `attempt` (from 1)."""
    whole = min(retry.most_s, retry.first_s * 2.0 ** min(attempt - 1, 60))
    return whole * rng.uniform(0.5, 1.0) if retry.jitter else whole
