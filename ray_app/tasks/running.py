"""The run of one attempt, as its handler sees it."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from ray_app.config import Tasks
from ray_app.errors import NotFound, Unavailable
from ray_app.tasks.names import Names
from ray_app.tasks.queue import Queue
from ray_app.tasks.task import ENDED, Submission, Task
from ray_app.tasks.work import Handler, JobFailed, NotMine, Parked

T = TypeVar("T")
Tell = Callable[[dict[str, Any]], bool]
ANSWER = "answer: "  # begins the line of a job's log that holds a handler's result, as JSON
SHOWN = 2000  # characters of a failed job's log


class Bench:
    """What all runs of a process share: a loop for coroutines in a thread of its own, and the World with its queue,
    opened at their first use."""

    def __init__(self, open_stores: Callable[[], Any], settings: Tasks, names: Names) -> None:
        self._open_stores, self.settings, self._names = open_stores, settings, names
        self._stores: Any = None
        self._queue: Queue | None = None
        self._opening = threading.RLock()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True, name="handlers").start()

    @property
    def stores(self) -> Any:
        with self._opening:
            if self._stores is None:
                self._stores = self._open_stores()
        return self._stores

    @property
    def queue(self) -> Queue:
        with self._opening:
            if self._queue is None:
                s = self.stores
                prefix = s.settings.stores.redis_prefix
                self._queue = Queue(s.redis, prefix, self.settings, s.clock, self._names.handlers)
        return self._queue

    def begin(self, awaitable: Awaitable[T]) -> Future[T]:
        """In the loop, whose thread SystemExit and KeyboardInterrupt would end."""

        async def awaited() -> T:
            try:
                return await awaitable
            except (SystemExit, KeyboardInterrupt) as e:
                raise RuntimeError(f"a handler may not end its program: {type(e).__name__}: {e}") from e

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop)

    def close(self) -> None:
        if self._stores is not None:
            asyncio.run_coroutine_threadsafe(self._stores.close(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)


class Running:
    """`tell` sends a word of this run, and is False when the task is no longer ours; `bench` is what its process works
    with."""

    def __init__(self, task: Task, tell: Tell, bench: Bench) -> None:
        self._task, self._tell, self._bench = task, tell, bench
        self._children, self._jobs = 0, 0
        self.following = task.following  # the job that goes on while this attempt does

    @property
    def id(self) -> str:
        return self._task.id

    @property
    def attempt(self) -> int:
        return self._task.attempt

    @property
    def tenant(self) -> str:
        return self._task.tenant

    @property
    def trace(self) -> str:
        return self._task.trace

    @property
    def stores(self) -> Any:
        return self._bench.stores

    def wait(self, awaitable: Awaitable[T]) -> T:
        future = self._bench.begin(awaitable)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # what interrupts the handler ends what it waited for
            raise

    async def progress(self, done: int, total: int = 0, note: str = "") -> None:
        told = {"done": done, "total": total, "note": printable(note, 1000)}
        await self._told({"progress": orjson.dumps(told).decode()})

    async def log(self, line: str) -> None:
        await self._told({"line": printable(line, 4000)})

    async def still_mine(self) -> None:
        await self._told({})

    async def _told(self, word: dict[str, Any]) -> None:
        if not await asyncio.to_thread(self._tell, word):
            raise NotMine(f"task {self.id} is not this run's any more: another has it, or it has ended", value=self.id)

    async def before(self) -> list[Task]:
        found = await self._bench.queue.get_many(self._task.after)
        return [found[id] for id in self._task.after if id in found]

    async def submit(self, *asked: Submission) -> list[str]:
        return await self._bench.queue.submit(*(self._child(s) for s in asked))

    def _child(self, s: Submission) -> Submission:
        self._children += 1
        tenant = self.tenant if s.tenant == "system" else s.tenant
        return replace(
            s, id=s.id or f"{self.id}.{self._children}", parent=self.id, trace=s.trace or self.trace, tenant=tenant
        )

    async def gather(self, *asked: Submission) -> list[Task]:
        ids = await self.submit(*asked)
        found = await self._bench.queue.get_many(ids)
        waiting = [id for id in ids if id in found and found[id].state not in ENDED]
        if waiting:
            raise Parked(after=waiting)
        return [found[id] for id in ids if id in found]

    async def job(self, script: str, args: Sequence[str] = ()) -> str:
        self._jobs += 1
        id = job_id(self.id, self.attempt, self._jobs)
        return await asyncio.to_thread(self._follow, id, script, args)

    def elsewhere(self, handler: Handler) -> Any:
        """A handler that asks for CPUs or GPUs runs in a Ray Job that has them (jobs/task.py); what it returned."""
        id = job_id(self.id, self.attempt)
        log = self._follow(id, "task", ["--id", self.id, "--job", id], handler)
        found = [line for line in log.splitlines() if line.startswith(ANSWER)]
        if not found:
            raise JobFailed(f"job {id} told no result: {log[-SHOWN:]}", value=id)
        return orjson.loads(found[-1].removeprefix(ANSWER))

    def stop_job(self, id: str) -> None:
        """That there is none any more is as good. Raises Parked while nobody can be asked."""
        from ray_app import cluster

        try:
            with suppress(NotFound):
                cluster.stop_job(cluster.job_client(self.stores.settings.data), id)
        except (Unavailable, OSError) as e:
            raise Parked(following=id) from e
        self.following = ""

    def _follow(self, id: str, script: str, args: Sequence[str], asks: Handler | None = None) -> str:
        from ray_app import cluster  # Ray is heavy, and most slots never need it

        try:
            client = cluster.job_client(self.stores.settings.data)
            found = cluster.job_of(client, id)
        except (Unavailable, RuntimeError, OSError) as e:
            if not self.following:
                raise
            raise Parked(following=self.following) from e  # nobody can be asked, and the job may go on
        if found is None:
            if self._task.following == id:
                raise JobFailed(f"job {id} is gone: the cluster that ran it is another one now", value=id)
            self._note(id)
            cluster.submit_job(client, script, args, id, *((asks.cpus, asks.gpus) if asks else ()))
        if found is None or not found.ended:
            self._bound(id)
            raise Parked(following=id)
        if not found.succeeded:
            raise JobFailed(f"job {id} ended as {found.status}: {found.log[-SHOWN:]}", value=id)
        return found.log

    def _bound(self, id: str) -> None:
        """Ray's jobs have no limit of their own: one that hangs would be followed for ever."""
        limit_s = self._bench.settings.job_limit_s
        if time.time() * 1000 - self._task.started_at < limit_s * 1000:
            return
        self.stop_job(id)
        raise JobFailed(f"job {id} was stopped: it had run for tasks.job_limit_s, {limit_s:g} s", value=id)

    def _note(self, id: str) -> None:
        """Before the job begins: who takes the task over finds it, and the job may say how far it is."""
        if not self._tell({"following": id}):
            raise NotMine(f"task {self.id} is not this run's any more: no job is begun", value=self.id)
        self.following = id


def printable(text: str, most: int) -> str:
    """Its first characters, without halves of characters, which JSON cannot hold."""
    return text[:most].encode("utf-8", "replace").decode()


def job_id(task: str, attempt: int, place: int = 1) -> str:
    """`<task id>-<attempt>`; of a second job of the attempt with its place behind. It becomes a file's name."""
    id = re.sub(r"[^A-Za-z0-9@:._-]", "-", f"{task}-{attempt}")
    return id if place == 1 else f"{id}-{place}"
