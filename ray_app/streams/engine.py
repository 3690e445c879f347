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
from ray_app.errors import Unavailable
from ray_app.streams.flow import Loop
from ray_app.streams.partitions import Leases

logger = logging.getLogger(__name__)
FIRST_WAIT_S, MOST_WAIT_S = 0.1, 5.0
IDLE_S = 0.2
AWAY = (Unavailable, RedisError, OSError)  # a store does not answer


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
        runnable, wait_s = make(), FIRST_WAIT_S
        reader = _Reader(runnable, self._settings, self._clock)
        while not self._ending.is_set():
            try:
                await reader.turn()
                wait_s = FIRST_WAIT_S
                continue
            except AWAY as e:
                logger.warning("a flow waits for its stores", extra={"flow": name, "why": str(e)[:300]})
            except Exception:
                logger.exception("a flow failed and tries again", extra={"flow": name})
            await self._pause(wait_s)
            wait_s = min(MOST_WAIT_S, wait_s * 2)
            reader.forget()
        await reader.leave()
        await runnable.close()

    async def _pause(self, seconds: float) -> None:
        await asyncio.to_thread(self._ending.wait, seconds)


@dataclass(frozen=True, slots=True)
class _Held:
    """A partition rests `until`, by the monotonic clock: it lingers, or has failed and waited `wait_s`."""

    until: float
    wait_s: float


class _Reader:
    """The partitions that are ours and where we stand in each."""

    def __init__(self, runnable: Runnable, settings: Streams, clock: Clock) -> None:
        self._r, self._settings, self._clock = runnable, settings, clock
        self._positions: dict[int, int] = {}
        self._held_back: dict[int, _Held] = {}
        self._renew_at = 0.0

    async def turn(self) -> None:
        """Renew the leases when due, then one step in each partition of ours."""
        if self._clock.monotonic() >= self._renew_at:
            await self._renew()
        moved = False
        for p in self._ready():
            moved |= await self._step(p)
        if not moved:
            await self._idle()

    def _ready(self) -> list[int]:
        now = self._clock.monotonic()
        return [p for p in self._positions if p not in self._held_back or self._held_back[p].until <= now]

    async def _step(self, p: int) -> bool:
        """True when it moved. An error of ours holds this partition back and no other: it keeps its place, since a
        dead letter would lose what a corrected flow can read."""
        at = self._positions[p]
        try:
            self._positions[p] = await self._r.loop.step(p, at, self._settings.batch, 0.0)
        except AWAY:
            raise
        except Exception:
            wait_s = min(MOST_WAIT_S, self._held_back[p].wait_s * 2 if p in self._held_back else FIRST_WAIT_S)
            self._held_back[p] = _Held(self._clock.monotonic() + wait_s, wait_s)
            where = {"flow": self._r.loop.flow.name, "partition": p, "position": at}
            logger.exception("a flow failed; its partition keeps its place and is tried again", extra=where)
            return False
        moved = self._positions[p] - at
        self._held_back.pop(p, None)
        if 0 < moved < self._settings.batch and self._r.loop.flow.linger_s:
            self._held_back[p] = _Held(self._clock.monotonic() + self._r.loop.flow.linger_s, FIRST_WAIT_S / 2)
        return moved != 0

    async def _idle(self) -> None:
        """Wait for the first entry in any partition of ours."""
        log, topic = self._r.loop.log, self._r.loop.flow.topic
        reads = [asyncio.ensure_future(log.read(topic, p, self._positions[p], 1, IDLE_S)) for p in self._ready()]
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
        self._held_back.clear()
        self._renew_at = 0.0

    async def leave(self) -> None:
        try:
            await self._r.leases.leave(set(self._positions))
        except (RedisError, OSError):
            logger.info("leases are left to expire")
