"""Runs the scheduler's loop in a thread of its own, with connections of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ray_app.tasks.scheduler import AWAY, MOST_WAIT_S, Scheduler

logger = logging.getLogger(__name__)
FIRST_WAIT_S = 0.1


@dataclass(frozen=True)
class Opened:
    """A scheduler with its connections; `close` ends them."""

    scheduler: Scheduler
    close: Callable[[], Awaitable[None]]


class SchedulerThread:
    """`make` is called in the thread, again until it does not fail: a connection belongs to one event loop."""

    def __init__(self, make: Callable[[], Awaitable[Opened]]) -> None:
        self._make, self._ending = make, threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="scheduler", daemon=True)
        self._scheduler: Scheduler | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the turn in hand; the lease is handed over."""
        self._ending.set()
        self._thread.join(10)

    def alive(self) -> bool:
        return self._ending.is_set() or self._thread.is_alive()

    def leads(self) -> bool:
        """It has the lease; one that stands by has not."""
        return self._scheduler is not None and self._scheduler.leads

    async def _run(self) -> None:
        opened = await self._open()
        if opened is None:
            return
        self._scheduler = opened.scheduler
        try:
            await opened.scheduler.run(self._ending)
        finally:
            await opened.close()

    async def _open(self) -> Opened | None:
        wait_s = FIRST_WAIT_S
        while not self._ending.is_set():
            try:
                return await self._make()
            except AWAY as e:
                logger.warning("the scheduler waits for its store", extra={"why": str(e)[:300]})
            except Exception:
                logger.exception("the scheduler could not be opened; it is tried again")
            await asyncio.to_thread(self._ending.wait, wait_s)
            wait_s = min(MOST_WAIT_S, wait_s * 2)
        return None
