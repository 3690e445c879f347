"""The task queue with a real Redis: slots in this process, or a guard with slots of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray_app.clock import SystemClock, new_id
from ray_app.config import Settings, Tasks
from ray_app.config import Stores as StoreSettings
from ray_app.stores.redis import connect
from ray_app.tasks.pools import pools
from ray_app.tasks.queue import Queue
from ray_app.tasks.seat import Seat
from ray_app.tasks.slot import Slot
from ray_app.tasks.task import ENDED, State, Submission, Task
from ray_app.tasks.work import Handler
from ray_app.tasks.worker import Worker
from ray_app.wiring.guard import trade, worker

NOBODY = "http://127.0.0.1:9"  # where no ClickHouse listens; nothing asks before the first use


class TasksWorld:
    """`open_stores`: what handlers see as `run.stores`; the World of `settings` unless said. It is opened in the
    slot's own thread and loop."""

    def __init__(
        self, settings: Settings, handlers: Sequence[Handler], open_stores: Callable[[], Any] | None = None
    ) -> None:
        self.settings, self._handlers, self._open = settings, handlers, open_stores
        self.redis = connect(settings.stores.redis_url or "")
        self.queue = Queue(self.redis, settings.stores.redis_prefix, settings.tasks, SystemClock(), handlers)
        self.workers: list[Worker] = []

    async def submit(self, name: str, argument: dict[str, Any] | None = None, **more: Any) -> str:
        return (await self.queue.submit(Submission(name, argument or {}, **more)))[0]

    async def work_off(self, timeout_s: float = 40.0) -> None:
        """Do tasks in one slot, in a thread of this process, until none is open. Raises AssertionError after
        `timeout_s`, naming what is left."""
        ending = threading.Event()
        thread = threading.Thread(target=self._work, args=(ending,), daemon=True)
        thread.start()
        try:
            await self.until(self._nothing_open, timeout_s)
        finally:
            ending.set()
            await asyncio.to_thread(thread.join, 10)

    def _work(self, ending: threading.Event) -> None:
        made = trade(self.settings, self._handlers)
        if self._open is not None:
            made = type(made)(made.redis, made.prefix, made.settings, made.names, self._open)
        slot, finish, pause = Slot(new_id(), next(iter(pools(self.settings.tasks).values())), Seat(), made), None, 0.0
        slot.tell_known()
        while not ending.is_set() or finish is not None:
            finish, pause = slot.step(finish, claims=not ending.is_set())
            if finish is None:
                slot._rest(min(pause, 0.1))
        slot.close()

    async def _nothing_open(self) -> bool:
        """Of what this world's handlers can do: others may share its Redis."""
        open_ = await self.queue.find(set(State) - ENDED, most=1_000_000)
        return not [t for t in open_ if self.queue.names.known(t.name)]

    def start_worker(self, module: str = "tests.crash.handlers", pool: str = "general") -> Worker:
        """A guard with slots, whose handlers are those of `module`."""
        made = worker(self.settings, pool, module)
        made.start()
        self.workers.append(made)
        return made

    async def ended(self, *ids: str, timeout_s: float = 40.0) -> list[Task]:
        """The tasks, when all have ended."""

        async def all_ended() -> bool:
            found = await self.queue.get_many(ids)
            return all(found[i].state in ENDED for i in ids)

        await self.until(all_ended, timeout_s)
        found = await self.queue.get_many(ids)
        return [found[i] for i in ids]

    async def effects(self, id: str) -> list[str]:
        found: Any = await self.redis.lrange(f"effects:{id}", 0, -1)
        return [e.decode() for e in found]

    async def until(self, what: Callable[[], Any], timeout_s: float = 40.0) -> None:
        """Polls what other processes do."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not await what():
            if loop.time() > deadline:
                left = await self.queue.find(set(State) - ENDED, most=20)
                raise AssertionError(f"not true within {timeout_s} s; open: {left}")
            await asyncio.sleep(0.02)  # a poll of other processes, not a race

    async def close(self) -> None:
        for one in self.workers:
            await asyncio.to_thread(one.stop)
        await self.redis.aclose()


def settings_of(redis_url: str, data: Path, clickhouse_url: str = NOBODY, **tasks: Any) -> Settings:
    """Retries and leases are short unless said."""
    chosen = {"lease_s": 2.0, "retry_first_s": 0.05, "retry_max_s": 0.2, **tasks}
    return Settings(
        data=data, stores=StoreSettings(redis_url=redis_url, clickhouse_url=clickhouse_url), tasks=Tasks(**chosen)
    )
