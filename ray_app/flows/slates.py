"""Slate sink: what was answered, with the feature values as they were shown, to ClickHouse.

Promise: each request_id exactly once in deduplicated query results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from ray_app.events.base import Logged, Topics
from ray_app.flows.read import events, slate
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op

if TYPE_CHECKING:
    from ray_app.stores.olap import Olap

COLUMNS = ("tenant", "request_id", "scenario", "visitor", "answered_at", "items", "degraded", "arms", "versions")


class Slates:
    name = "slates"
    linger_s = 2.0

    def __init__(self, topics: Topics, olap: Olap) -> None:
        self.topics, self._olap = topics, olap

    async def flush(self, batch: Batch) -> Sequence[Op]:
        lines = [line for _, line in events(batch, _line)]
        await self._olap.insert("slates", COLUMNS, lines)
        return ()


def _line(entry: Logged) -> tuple[str | int, ...]:
    """Raises ValueError, TypeError or KeyError also for what can be read and not be written, as deep nesting."""
    s = slate(entry)
    parts = (s.items, s.degraded, s.arms, s.versions)
    return s.tenant, s.request_id, s.scenario, s.visitor, s.answered_at, *(_json(p) for p in parts)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
