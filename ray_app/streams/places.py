"""The places (topic, partition) of a flow: fixed topics, and those of a pattern as they come into being."""

from __future__ import annotations

import logging

from ray_app.clock import Clock
from ray_app.events.base import EventLog, Place, PlaceUnavailable, Topics

logger = logging.getLogger(__name__)
LOOK_S = 5.0  # a new topic of the pattern, and a new partition, is found within this


class Places:
    """`all` asks the log at most every LOOK_S."""

    def __init__(self, log: EventLog, topics: Topics, clock: Clock) -> None:
        self._log, self._topics, self._clock = log, topics, clock
        self._known: list[Place] = []
        self._look_at = 0.0

    async def all(self) -> list[Place]:
        if not self._known or self._clock.monotonic() >= self._look_at:
            names = self._topics.among(await self._log.topics() if self._topics.pattern else ())
            self._known = [(t, p) for t in names for p in range(await self._count(t))]
            self._look_at = self._clock.monotonic() + LOOK_S
        return self._known

    async def _count(self, topic: str) -> int:
        """0 for one that cannot be reached: the others are read meanwhile."""
        try:
            return await self._log.partitions(topic)
        except PlaceUnavailable as e:
            why = e.message[:300]
            logger.warning("a topic is left out until it can be reached", extra={"topic": topic, "why": why})
            return 0
