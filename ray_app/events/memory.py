"""The event log in memory, for unit tests and stories: it forgets at the end of the process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ray_app.clock import Clock
from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Entry, Logged, Place, PositionLost, partition_of


class MemoryLog:
    def __init__(self, partitions: int, clock: Clock) -> None:
        self._n, self._clock = partitions, clock
        self._entries: dict[tuple[str, int], list[Logged]] = defaultdict(list)
        self._lost: dict[tuple[str, int], int] = defaultdict(int)
        self._told: dict[tuple[str, str, int], int] = {}
        self._grown = asyncio.Condition()
        self.away = False  # tests set it: every call then raises Unavailable

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        self._reach()
        async with self._grown:
            done = [self._append(topic, e) for e in entries]
            self._grown.notify_all()
        return done

    def _append(self, topic: str, e: Entry) -> Appended:
        p = partition_of(e.key, self._n)
        held = self._entries[topic, p]
        at = max(self._clock.now(), held[-1].appended_at if held else 0)
        position = self._lost[topic, p] + len(held)
        held.append(Logged(topic, p, position, at, e.key, e.body))
        return Appended(topic, p, position)

    async def topics(self) -> list[str]:
        self._reach()
        return sorted({topic for (topic, _), held in self._entries.items() if held})

    async def partitions(self, topic: str) -> int:
        return self._n

    async def wait(self, places: Mapping[Place, int], wait_s: float) -> None:
        def come() -> bool:
            return any(at < self._lost[p] + len(self._entries[p]) for p, at in places.items())

        async with self._grown:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait_for(come), wait_s)

    async def read(self, topic: str, partition: int, position: int, limit: int, wait_s: float = 0.0) -> list[Logged]:
        self._reach()
        first = self._lost[topic, partition]
        if position < first:
            raise PositionLost(topic, partition, position, first)
        held = self._entries[topic, partition]
        if wait_s and position - first >= len(held):
            async with self._grown:
                try:
                    await asyncio.wait_for(
                        self._grown.wait_for(lambda: len(held) > position - self._lost[topic, partition]), wait_s
                    )
                except TimeoutError:
                    return []
        return held[position - first : position - first + limit]

    def forget(self, topic: str, partition: int, before: int) -> None:
        """What retention does: drop entries below position `before`."""
        held, first = self._entries[topic, partition], self._lost[topic, partition]
        del held[: max(0, before - first)]
        self._lost[topic, partition] = max(first, before)

    async def first(self, topic: str, partition: int) -> int:
        return self._lost[topic, partition]

    async def end(self, topic: str, partition: int) -> int:
        self._reach()
        return self._lost[topic, partition] + len(self._entries[topic, partition])

    async def ends(self, topic: str) -> list[int]:
        return [await self.end(topic, p) for p in range(self._n)]

    async def tell_group(self, group: str, topic: str, partition: int, position: int) -> None:
        self._told[group, topic, partition] = position

    async def told(self, group: str, topic: str, partition: int) -> int:
        return self._told.get((group, topic, partition), 0)

    async def version(self) -> str:
        self._reach()
        return "memory"

    async def close(self) -> None:
        self._told.clear()

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("the event log is away; nothing was written. Send it again")
