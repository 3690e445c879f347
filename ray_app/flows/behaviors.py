"""Behaviour sink: every behaviour to ClickHouse.

Promise: each event_id exactly once in deduplicated query results (ReplacingMergeTree by tenant and event_id).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_app.events.base import Topics
from ray_app.flows.read import behaviors
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op

if TYPE_CHECKING:
    from ray_app.stores.olap import Olap

COLUMNS = (
    "tenant", "event_id", "visitor", "user_id", "session_id", "item_id", "type",
    "value", "scenario", "request_id", "position", "occurred_at", "appended_at",
)  # fmt: skip


class Behaviors:
    name = "behaviors"
    linger_s = 1.0

    def __init__(self, topics: Topics, olap: Olap) -> None:
        self.topics, self._olap = topics, olap

    async def flush(self, batch: Batch) -> Sequence[Op]:
        lines = [
            (
                b.tenant, b.event_id, b.visitor, b.user_id or "", b.session_id or "", b.item_id, b.type,
                b.value, b.scenario or "", b.request_id or "", b.position, b.occurred_at, at,
            )
            for at, b in behaviors(batch)
        ]  # fmt: skip
        await self._olap.insert("behaviors", COLUMNS, lines)
        return ()
