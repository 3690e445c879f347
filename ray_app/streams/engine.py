"""Runs flows: each in a thread and an event loop of its own, so that a slow one delays no other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from ray_app.cancel import cancel
from ray_app.clock import Clock
from ray_app.config import Streams
from ray_app.errors import Unavailable
from ray_app.events.base import Place, PlaceUnavailable
from ray_app.streams.control import Control, Moved
from ray_app.streams.flow import Loop
from ray_app.streams.partitions import Leases
from ray_app.streams.places import Places

logger = logging.getLogger(__name__)
FIRST_WAIT_S, MOST_WAIT_S = 0.1, 5.0
IDLE_S = 0.2
AGAIN_S = 0.2  # a turn reads what moves again and again for so long, and all other places wait
AT_ONCE = 4  # places of a flow: some are applied while the stores write what came of others
AWAY = (Unavailable, RedisError, OSError)  # a store does not answer


@dataclass(frozen=True)
class Runnable:
    """A flow with its own connections, of one generation of its state; `close` ends them."""

    loop: Loop
    places: Places
    leases: Leases
    control: Control
    generation: int
    close: Callable[[], Awaitable[None]]


Make = Callable[[], Awaitable[Runnable]]


class Engine:
    """`makers` are called in the flow's own thread, since a connection belongs to one event loop."""

    def __init__(self, makers: Mapping[str, Make], settings: Streams, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._ending = threading.Event()
        self._lags: dict[str, dict[Place, int]] = {name: {} for name in makers}
        self._wanted = 0
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

    def lags(self) -> dict[str, dict[Place, int]]:
        """Entries behind, by flow and place, of the places that are this member's; a second old at most."""
        return {flow: dict(lags) for flow, lags in self._lags.items()}

    def wanted(self) -> int:
        """Replicas that an operator asked for; 0: none."""
        return self._wanted

    def _thread(self, name: str, make: Make) -> None:
        asyncio.run(self._run(name, make))

    async def _run(self, name: str, make: Make) -> None:
        reader, wait_s = None, FIRST_WAIT_S
        while not self._ending.is_set():
            try:
                reader = reader or _Reader(await make(), self._settings, self._clock)
                await reader.turn()
                self._lags[name], self._wanted, wait_s = reader.lags, reader.wanted, FIRST_WAIT_S
                continue
            except Moved as e:
                logger.info(e.message, extra={"flow": name})
                await self._leave(reader)
                reader = None
                continue
            except AWAY as e:
                logger.warning("a flow waits for its stores", extra={"flow": name, "why": str(e)[:300]})
            except Exception:
                logger.exception("a flow failed and tries again", extra={"flow": name})
            await self._pause(wait_s)
            wait_s = min(MOST_WAIT_S, wait_s * 2)
            if reader:
                reader.forget()
        await self._leave(reader)

    async def _leave(self, reader: _Reader | None) -> None:
        if reader:
            await reader.leave()

    async def _pause(self, seconds: float) -> None:
        await asyncio.to_thread(self._ending.wait, seconds)


@dataclass(frozen=True, slots=True)
class _Held:
    """A partition rests `until`, by the monotonic clock: it lingers, or has failed and waited `wait_s`."""

    until: float
    wait_s: float


class _Reader:
    """The places (topic, partition) that are ours and where we stand in each."""

    def __init__(self, runnable: Runnable, settings: Streams, clock: Clock) -> None:
        self._r, self._settings, self._clock = runnable, settings, clock
        self._positions: dict[Place, int] = {}
        self._held_back: dict[Place, _Held] = {}
        self._ends: dict[Place, int] = {}
        self._renew_at = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self.lags: dict[Place, int] = {}
        self.wanted = 0

    async def turn(self) -> None:
        """Renew the leases when due, then one step in each place of ours, or more while steps are short: at the end of
        a turn each waits for the slowest."""
        if self._clock.monotonic() >= self._renew_at:
            await self._renew()
        places, until = deque(self._ready()), self._clock.monotonic() + AGAIN_S
        ended = await asyncio.gather(*(self._steps(places, until) for _ in range(AT_ONCE)), return_exceptions=True)
        for failed in ended:  # once all have ended, so that no place has two steps at a time
            if isinstance(failed, BaseException):
                raise failed
        if not any(ended):
            await self._idle()

    async def _steps(self, places: deque[Place], until: float) -> bool:
        """One step in each of `places` that nobody else takes, and another in each that moves before `until`; True when
        one moved."""
        moved = False
        while places:
            place = places.popleft()
            if await self._step(place):
                moved = True
                if self._clock.monotonic() < until and place not in self._held_back:
                    places.append(place)
            if self._clock.monotonic() >= self._renew_at:  # steps may be slow, and a lease must not run out meanwhile
                break
        return moved

    def _ready(self) -> list[Place]:
        now = self._clock.monotonic()
        return [p for p in self._positions if p not in self._held_back or self._held_back[p].until <= now]

    async def _step(self, place: Place) -> bool:
        """True when it moved. An error of ours holds this place back and no other: it keeps its position, since a
        dead letter would lose what a corrected flow can read."""
        at = self._positions[place]
        try:
            self._positions[place] = await self._r.loop.step(place, at, self._settings.batch)
        except PlaceUnavailable as e:
            where = self._hold_back(place)
            logger.warning("a partition cannot be reached; the others go on", extra=where | {"why": e.message[:300]})
            return False
        except (Moved, *AWAY):
            raise
        except Exception:
            where = self._hold_back(place)
            logger.exception("a flow failed; its partition keeps its place and is tried again", extra=where)
            return False
        moved = self._positions[place] - at
        self._held_back.pop(place, None)
        most = self._settings.batch
        if 0 < moved < most and self._behind(place) < most and self._r.loop.flow.linger_s:
            self._held_back[place] = _Held(self._clock.monotonic() + self._r.loop.flow.linger_s, FIRST_WAIT_S / 2)
        return moved != 0

    def _hold_back(self, place: Place) -> dict[str, object]:
        """For twice as long as the time before; returns what a log line says of the place."""
        wait_s = min(MOST_WAIT_S, self._held_back[place].wait_s * 2 if place in self._held_back else FIRST_WAIT_S)
        self._held_back[place] = _Held(self._clock.monotonic() + wait_s, wait_s)
        flow, at = self._r.loop.flow.name, self._positions[place]
        return {"flow": flow, "topic": place[0], "partition": place[1], "position": at}

    def _behind(self, place: Place) -> int:
        """Entries that were there when it was last measured and are left: a batch of large ones is never whole, and a
        flow that rested after each would never catch up."""
        return self._ends.get(place, 0) - self._positions[place]

    async def _idle(self) -> None:
        """Wait for the first entry in any place of ours."""
        ready = {p: self._positions[p] for p in self._ready()}
        if ready:
            await self._r.loop.log.wait(ready, IDLE_S)
        else:
            await asyncio.sleep(IDLE_S)

    async def _renew(self) -> None:
        """Raises Moved when the flow's state was rebuilt."""
        r = self._r
        wanted = await r.control.of(r.loop.flow.name)
        if wanted.generation != r.generation:
            raise Moved(f"flow {r.loop.flow.name!r} goes on at generation {wanted.generation} of its state")
        if wanted.paused:
            await self._let_go()
        else:
            await self._share()
        self.wanted = await r.control.replicas()
        self._renew_at = self._clock.monotonic() + self._settings.lease_s / 3
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.create_task(self._measure())

    async def _share(self) -> None:
        """Positions are ours, never the group's, and are read again: a member with nothing to read would not notice
        that they were put back, by an operator or with a Redis that was restored."""
        mine = await self._r.leases.renew(await self._r.places.all(), self._positions)
        self._positions = await self._r.loop.state.positions(sorted(mine))
        self._held_back = {p: held for p, held in self._held_back.items() if p in mine}

    async def _let_go(self) -> None:
        await self._r.leases.leave(self._positions)
        self.forget()

    async def _measure(self) -> None:
        """Beside the steps: a broker that does not answer would hold them up for longer than a lease."""
        found: dict[Place, int] = {}
        for topic in {t for t, _ in self._positions}:
            try:
                ends = await self._r.loop.log.ends(topic)
            except AWAY as e:
                logger.info("a topic was not measured", extra={"topic": topic, "why": str(e)[:200]})
                continue
            found |= {(topic, p): at for p, at in enumerate(ends)}
        self._ends = found
        known = self.lags
        self.lags = {p: max(0, found[p] - at) if p in found else known.get(p, 0) for p, at in self._positions.items()}

    def forget(self) -> None:
        """After a failure: read the leases and positions again."""
        self._positions.clear()
        self._held_back.clear()
        self._renew_at = 0.0

    async def leave(self) -> None:
        """Hand the leases over and end the connections."""
        await cancel([self._measuring] if self._measuring else [])
        try:
            await self._r.leases.leave(self._positions)
        except (RedisError, OSError):
            logger.info("leases are left to expire")
        await self._r.close()
