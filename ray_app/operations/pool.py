"""The pool of flows as an operator sees it: where each stands, what pauses, and what a rewind does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_app.clock import Clock
from ray_app.errors import NotFound
from ray_app.events.base import EventLog, Topics
from ray_app.streams.control import Control, prefix_of
from ray_app.streams.engine import Runnable
from ray_app.streams.places import Places
from ray_app.streams.rewind import Progress, Rewind
from ray_app.streams.state import position_key

if TYPE_CHECKING:
    from redis.asyncio import Redis

REBUILT = ("hot", "metrics", "profile")  # their state is in Redis; the others write to sinks, idempotent by id
BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Line:
    """One partition of a flow. `member` holds it now, "" when none does."""

    flow: str
    topic: str
    partition: int
    position: int
    end: int
    member: str

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)


@dataclass(frozen=True, slots=True)
class FlowState:
    """`lag` adds up its partitions; `members` hold at least one each."""

    flow: str
    topics: tuple[str, ...]
    paused: bool
    generation: int
    members: int
    lag: int


class Pool:
    """`topics`: what each flow reads; `open_at` opens a flow at a generation of its state."""

    def __init__(
        self,
        log: EventLog,
        redis: Redis,
        prefix: str,
        topics: Mapping[str, Topics],
        clock: Clock,
        open_at: Callable[[str, int], Awaitable[Runnable]],
    ) -> None:
        self._log, self._redis, self._prefix, self._topics = log, redis, prefix, topics
        self._clock, self._open_at = clock, open_at
        self.control = Control(redis, prefix)

    def check(self, flow: str) -> str:
        """Raises NotFound, naming those that run."""
        if flow not in self._topics:
            raise NotFound(f"flow {flow!r} does not run here. Known: {', '.join(self._topics)}", flow=flow)
        return flow

    async def lags(self, flow: str) -> list[Line]:
        """Each partition, in order."""
        places = await Places(self._log, self._topics[self.check(flow)], self._clock).all()
        kept = prefix_of(self._prefix, flow, (await self.control.of(flow)).generation)
        held: Any = await self._redis.mget([position_key(kept, flow, p) for p in places]) if places else []
        owners: Any = await self._redis.mget([f"{self._prefix}:lease:{flow}:{t}:{p}" for t, p in places] or ["-"])
        ends = {topic: await self._log.ends(topic) for topic in {t for t, _ in places}}
        return [
            Line(flow, topic, p, int(at or 0), ends[topic][p], (owner or b"").decode())
            for (topic, p), at, owner in zip(places, held, owners, strict=False)
        ]

    async def list(self) -> list[FlowState]:
        found = []
        for flow in self._topics:
            wanted, lines = await self.control.of(flow), await self.lags(flow)
            topics = tuple(dict.fromkeys(line.topic for line in lines))
            members = len({line.member for line in lines} - {""})
            lag = sum(line.lag for line in lines)
            found.append(FlowState(flow, topics, wanted.paused, wanted.generation, members, lag))
        return found

    async def rewind(self, flow: str) -> AsyncIterator[Progress]:
        """Read the flow's history again, as far as the log has it; see streams.rewind."""
        work = Rewind(self.check(flow), lambda at: self._open_at(flow, at), self._redis, self._prefix, BATCH)
        if flow in REBUILT:
            async for progress in work.rebuild():
                yield progress
            return
        places = await Places(self._log, self._topics[flow], self._clock).all()
        yield Progress(0, await work.put_back(self._log, places))
