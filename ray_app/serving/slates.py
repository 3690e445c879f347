"""Slates are logged after the answer, in batches, and never in a request's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from ray_app.cancel import cancel
from ray_app.errors import LemoError
from ray_app.events.base import Entry, EventLog
from ray_app.events.schema import slate_entry
from ray_app.features.view import IDENTITY, VIEW
from ray_app.types import Slate

logger = logging.getLogger(__name__)
MOST_WAITING = 20_000
BATCH = 500
AGAIN_S = 1.0
PAUSE_S = 0.5  # gathers a batch: the log syncs, and ClickHouse inserts, twice a second and not once a request


class Slates:
    """`dropped` counts what did not fit while the log was away."""

    def __init__(self, log: EventLog, topic: str) -> None:
        self._log, self._topic = log, topic
        self._waiting: list[Slate] = []
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()  # a batch waits until it is written, so two at once would write it twice
        self.dropped = 0

    def put(self, slate: Slate) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(slate)
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name="slates")

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_S)
            try:
                await self.flush()
            except (LemoError, OSError) as e:
                logger.warning("slates wait for the event log", extra={"why": str(e)[:200], "dropped": self.dropped})
                await asyncio.sleep(AGAIN_S)
            except Exception:  # of ours: it may not end this loop
                logger.exception("slates cannot be written; they are tried again")
                await asyncio.sleep(AGAIN_S)

    async def flush(self) -> None:
        """Append what waits now."""
        async with self._writing:
            while batch := self._waiting[:BATCH]:
                entries = await asyncio.to_thread(_entries, batch)
                await self._log.append(self._topic, entries)
                del self._waiting[: len(batch)]

    async def close(self) -> None:
        if self._task is not None:
            async with self._writing:  # between two batches: one that is cut off would be written again
                await cancel([self._task])
        try:
            await self.flush()
        except Exception as e:
            logger.warning("slates were lost at the end", extra={"count": len(self._waiting), "why": str(e)[:200]})


def _entries(slates: Sequence[Slate]) -> list[Entry]:
    """Each with the view that its features are of; without what cannot be written: it would hold up all that come
    later."""
    found = []
    for s in slates:
        try:
            found.append(slate_entry(replace(s, versions={**s.versions, VIEW: IDENTITY})))
        except Exception:
            logger.exception("a slate cannot be written and is left out", extra={"request_id": s.request_id})
    return found
