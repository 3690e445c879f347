"""The loop of a flow and its commit order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ray_app.errors import Unavailable
from ray_app.events.base import SUFFIX, EventLog, Logged, Place, PositionLost, Topics
from ray_app.streams.letters import letter, unwrap
from ray_app.streams.state import Op, State, Sums

logger = logging.getLogger(__name__)
Hook = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Bad:
    """An entry that cannot be read, and why; it goes to the dead-letter topic."""

    entry: Logged
    why: str


@dataclass(slots=True)
class Batch:
    """Entries of one partition in their order, and what could not be read of them."""

    entries: Sequence[Logged]
    bad: list[Bad] = field(default_factory=list)


class Flow(Protocol):
    """A named stream program over some topics. `linger_s`: how long a partition rests after less than a whole batch, so
    that a sink for which many small writes are dear gets fewer and larger ones; 0 where freshness counts."""

    name: str
    topics: Topics
    linger_s: float

    async def flush(self, batch: Batch) -> Sequence[Op | Sums]:
        """Steps 1 and 2: apply the entries, write to sinks (idempotent: a batch may come again), and return
        what changes in Redis. Entries that cannot be read are put into `batch.bad`."""
        ...


async def _pass(gap: str) -> None:
    """Tests put an abort here."""


@dataclass
class Loop:
    """One flow on one log: what `step` needs. `generation` is that of its state."""

    flow: Flow
    log: EventLog
    state: State
    group: str
    hook: Hook = _pass
    generation: int = 0

    async def step(self, place: Place, position: int, limit: int) -> int:
        """Read a batch at `position`, and return the position after it.

        1 apply (pure)
        2 flush sinks (idempotent by id) and dead letters
        3 one Lua call: changes and position, if the stored position is the batch's start
        4 tell the group, for lag tools only
        A crash before 3 replays the batch; after 3 it does not. A refused writer (another member wrote, or Redis
        went back) seeks to the stored position: one case for a takeover, a woken zombie and a restored Redis.
        """
        try:
            entries = await self.log.read(*place, position, limit)
        except PositionLost as e:
            return await self._skip(place, position, e)
        if not entries:
            return position
        batch = Batch(await unwrap(self.flow.name, self.generation, entries, self.state.began))
        began = entries[0].appended_at
        again = any(e.appended_at < began for e in batch.entries)
        await self.hook("read")
        ops = await self.flow.flush(batch) if batch.entries else ()
        if again:  # sent again, with the time of long ago: by that, its id would be forgotten at once
            ops = [op.since(began) for op in ops]
        await self.hook("flushed")
        await self._bury(place[0], batch)
        await self.hook("buried")
        span = (position, entries[-1].position + 1)
        at = await self.state.advance(place, span, entries[-1].appended_at, ops)
        await self.hook("advanced")
        await self._tell(place, at)
        await self.hook("told")
        return at

    async def _skip(self, place: Place, position: int, lost: PositionLost) -> int:
        """Entries lost to retention are reported and skipped: waiting would not bring them back."""
        logger.error(lost.message, extra={"flow": self.flow.name, **lost.metadata})
        at = await self.state.advance(place, (position, lost.first), 0, ())
        await self._tell(place, at)
        return at

    async def _tell(self, place: Place, at: int) -> None:
        """Nothing that counts hangs on it, so it holds nothing up."""
        try:
            await self.log.tell_group(self.group, *place, at)
        except Unavailable as e:
            logger.info("the group was not told", extra={"flow": self.flow.name, "why": e.message[:200]})

    async def _bury(self, topic: str, batch: Batch) -> None:
        if not batch.bad:
            return
        for bad in batch.bad:
            logger.error("dead letter", extra={"flow": self.flow.name, "why": bad.why, "position": bad.entry.position})
        letters = [letter(self.flow.name, bad.why, bad.entry, self.generation) for bad in batch.bad]
        await self.log.append(topic + SUFFIX, letters)
