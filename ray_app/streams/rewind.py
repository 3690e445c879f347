"""Rewind: read a flow's history again, beside the live state, and swap the two when the new one has caught up.

A flow whose state is in Redis is rebuilt as a new generation, with keys and positions of its own. A flow that only
writes to sinks, each entry idempotent by id, is put back to the first position of the log.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.clock import new_id
from ray_app.errors import LemoError
from ray_app.events.base import EventLog, Place
from ray_app.streams.control import Control, generation_field, prefix_of
from ray_app.streams.engine import Runnable
from ray_app.streams.partitions import DROP, TAKE
from ray_app.streams.state import position_key

if TYPE_CHECKING:
    from redis.asyncio import Redis

SWAP = (Path(__file__).parent / "rewind.lua").read_text()
FADE_S = 60
HOLD_S = 60  # after this another may begin, when one was killed
REST_S = 10.0  # so long at most the members rest while the last entries are read; then they go on as long, at least
Open = Callable[[int], Awaitable[Runnable]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Entries read again so far, and how many are still ahead of the rebuilt state."""

    read: int
    behind: int


class Rewind:
    """`open_at` makes the flow at a generation; `redis` and `prefix` are those of the live state."""

    def __init__(self, flow: str, open_at: Open, redis: Redis, prefix: str, batch: int) -> None:
        self._flow, self._open_at, self._redis, self._prefix, self._batch = flow, open_at, redis, prefix, batch
        self._control = Control(redis, prefix)
        self._swap = redis.register_script(SWAP)
        self._take, self._drop = redis.register_script(TAKE), redis.register_script(DROP)
        self._me, self._held = new_id(), f"{prefix}:rewinds:{flow}"
        self._rest_at = 0.0

    async def rebuild(self) -> AsyncIterator[Progress]:
        """Read everything that the log still has into a new generation and swap it in; what a cut run left is removed
        first. Raises LemoError while another rewind of this flow runs, or when one was swapped in meanwhile."""
        await self._hold()
        try:
            async with aclosing(self._rebuild()) as all_of_it:
                async for progress in all_of_it:
                    yield progress
        finally:
            await self._control.release(self._flow)
            await self._drop(keys=[self._held], args=[self._me])

    async def _hold(self) -> None:
        """One at a time: a second would remove what the first has rebuilt, or has just swapped in."""
        if not await self._take(keys=[self._held], args=[self._me, HOLD_S * 1000]):
            raise LemoError(
                f"another rewind of flow {self._flow!r} runs; nothing was changed. If it was killed, try again "
                f"in {HOLD_S} s"
            )

    async def _rebuild(self) -> AsyncGenerator[Progress]:
        live = (await self._control.of(self._flow)).generation
        await self._clear(live + 1)
        r = await self._open_at(live + 1)
        try:
            async for progress in self._read(r, live):
                yield progress
        finally:
            await r.close()
        await self._fade(live)

    async def _read(self, r: Runnable, live: int) -> AsyncIterator[Progress]:
        places = await r.places.all()
        at = {place: await r.loop.log.first(*place) for place in places}
        for place, first in at.items():
            if first:
                await r.loop.state.begin(place, first)
        read = 0
        while True:
            for place in places:
                await self._hold()
                after = await r.loop.step(place, at[place], self._batch)
                read, at[place] = read + after - at[place], after
            behind = await self._behind(r.loop.log, at)
            yield Progress(read, behind)
            if behind <= self._batch * len(places):
                if await self._swapped(places, live):
                    return
                await self._rest()

    async def _rest(self) -> None:
        """Under a steady load the live state is always some entries ahead, so its members rest for a moment."""
        now = time.monotonic()
        if now >= self._rest_at:
            await self._control.hold(self._flow, REST_S)
            self._rest_at = now + 2 * REST_S

    async def _behind(self, log: EventLog, at: dict[Place, int]) -> int:
        ends = {topic: await log.ends(topic) for topic in {t for t, _ in at}}
        return sum(max(0, ends[t][p] - position) for (t, p), position in at.items())

    async def _swapped(self, places: list[Place], live: int) -> bool:
        rebuilt = prefix_of(self._prefix, self._flow, live + 1)
        old = prefix_of(self._prefix, self._flow, live)
        keys = [self._control.key, *(position_key(old, self._flow, p) for p in places)]
        keys += [position_key(rebuilt, self._flow, p) for p in places]
        done = int(await self._swap(keys=keys, args=[generation_field(self._flow), live, live + 1]))
        if done < 0:
            raise LemoError(f"another rewind of flow {self._flow!r} was swapped in meanwhile; nothing was changed")
        return bool(done)

    async def _keys(self, generation: int, kind: str) -> list[bytes]:
        """`kind`: the flow's name for what it keeps, or position, once or began."""
        name = self._flow if kind == self._flow else f"{kind}:{self._flow}"
        pattern = f"{prefix_of(self._prefix, self._flow, generation)}:{name}:*"
        return [k async for k in self._redis.scan_iter(pattern, count=1000)]

    async def _clear(self, generation: int) -> None:
        """What a rewind that was cut short left."""
        for kind in (self._flow, "once", "began", "position"):
            if keys := await self._keys(generation, kind):
                await self._redis.unlink(*keys)

    async def _fade(self, generation: int) -> None:
        """The replaced keys end when no reader can still look there; the replaced positions stay, and refuse."""
        for kind in (self._flow, "once", "began"):
            keys = await self._keys(generation, kind)
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.expire(key, FADE_S)
                await pipe.execute()

    async def put_back(self, log: EventLog, places: list[Place]) -> int:
        """A flow of sinks: its positions go back to the log's first ones; a writer in the middle of a batch is
        refused and seeks there. Returns how many entries are read again."""
        again = 0
        for place in places:
            key, first = position_key(self._prefix, self._flow, place), await log.first(*place)
            again += max(0, int(await self._redis.getset(key, first) or 0) - first)
        return again
