"""Runs flows: each in a thread and an event loop of its own, so that a slow one delays no other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from ray_app.clock import Clock
from ray_app.config import Streams
from ray_app.errors import LemoError
from ray_app.streams.flow import Loop
from ray_app.streams.partitions import Leases

logger = logging.getLogger(__name__)
MOST_WAIT_S = 5.0
IDLE_S = 0.2


@dataclass(frozen=True)
class Runnable:
    """A flow with its own connections; `close` ends them."""

    loop: Loop
    leases: Leases
    close: Callable[[], Awaitable[None]]


Make = Callable[[], Runnable]


class Engine:
    """`makers` are called in the flow's own thread, since a connection belongs to one event loop."""

    def __init__(self, makers: Mapping[str, Make], settings: Streams, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._thread, args=(name, make), name=f"flow-{name}", daemon=True)
            for name, make in makers.items()
        ]

    def start(self) -> None:
        for t in self._threads:
            t.start()

    def stop(self) -> None:
        """Ends after the batch in hand; leases are handed over."""
        self._ending.set()
        for t in self._threads:
            t.join(10)

    def alive(self) -> bool:
        return self._ending.is_set() or all(t.is_alive() for t in self._threads)

    def _thread(self, name: str, make: Make) -> None:
        asyncio.run(self._run(name, make))

    async def _run(self, name: str, make: Make) -> None:
        runnable, wait_s = make(), 0.1
        reader = _Reader(runnable, self._settings, self._clock)
        while not self._ending.is_set():
            try:
                await reader.turn()
                wait_s = 0.1
            except (LemoError, RedisError, OSError) as e:
                logger.warning("a flow waits for its stores", extra={"flow": name, "why": str(e)[:300]})
                await self._pause(wait_s)
                wait_s = min(MOST_WAIT_S, wait_s * 2)
                reader.forget()
        await reader.leave()
        await runnable.close()

    async def _pause(self, seconds: float) -> None:
        await asyncio.to_thread(self._ending.wait, seconds)


class _Reader:
    """The partitions that are ours and where we stand in each."""

    def __init__(self, runnable: Runnable, settings: Streams, clock: Clock) -> None:
        self._r, self._settings, self._clock = runnable, settings, clock
        self._positions: dict[int, int] = {}
        self._renew_at = 0.0

    async def turn(self) -> None:
        """Renew the leases when due, then one step in each partition of ours."""
        loop = self._r.loop
        if self._clock.monotonic() >= self._renew_at:
            await self._renew()
        moved = False
        for p, at in list(self._positions.items()):
            self._positions[p] = await loop.step(p, at, self._settings.batch, 0.0)
            moved |= self._positions[p] != at
        if not moved:
            await self._idle()

    async def _idle(self) -> None:
        """Wait for the first entry in any partition of ours."""
        log, topic = self._r.loop.log, self._r.loop.flow.topic
        reads = [asyncio.ensure_future(log.read(topic, p, at, 1, IDLE_S)) for p, at in self._positions.items()]
        if not reads:
            await asyncio.sleep(IDLE_S)
            return
        _, late = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        for r in late:
            r.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    async def _renew(self) -> None:
        loop = self._r.loop
        n = await loop.log.partitions(loop.flow.topic)
        mine = await self._r.leases.renew(n, set(self._positions))
        for p in set(self._positions) - mine:
            del self._positions[p]
        for p in mine - set(self._positions):
            self._positions[p] = await loop.state.position(loop.flow.topic, p)  # ours, never the group's
        self._renew_at = self._clock.monotonic() + self._settings.lease_s / 3

    def forget(self) -> None:
        """After a failure: read the leases and positions again."""
        self._positions.clear()
        self._renew_at = 0.0

    async def leave(self) -> None:
        try:
            await self._r.leases.leave(set(self._positions))
        except (RedisError, OSError):
            logger.info("leases are left to expire")
