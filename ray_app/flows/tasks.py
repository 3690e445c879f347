"""Task sink: every attempt that ended, to ClickHouse.

Promise: each exactly once in deduplicated query results, also when it was shipped twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from ray_app.events.base import Logged, Topics
from ray_app.flows.read import events
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op
from ray_app.tasks.task import State

if TYPE_CHECKING:
    from ray_app.stores.olap import Olap

NUMBERS = ("attempt", "submitted_at", "eta", "started_at", "ended_at", "noted_at")
TEXTS = ("tenant", "id", "name", "queue", "parent", "trace", "argument", "result", "error")
COLUMNS = (*TEXTS, "task_group", "state", *NUMBERS)
LARGEST = 2**53  # as Redis' Lua holds it
MOST_ATTEMPTS = 65_535


class Tasks:
    name = "tasks"
    linger_s = 1.0

    def __init__(self, topics: Topics, olap: Olap) -> None:
        self.topics, self._olap = topics, olap

    async def flush(self, batch: Batch) -> Sequence[Op]:
        await self._olap.insert("task_attempts", COLUMNS, [line for _, line in events(batch, _line)])
        return ()


def _line(entry: Logged) -> tuple[str | int, ...]:
    """Raises ValueError, TypeError or KeyError for what no relay of ours has written."""
    raw = orjson.loads(entry.body)
    numbers = [int(raw[n] or 0) for n in NUMBERS]
    if not all(0 <= n <= LARGEST for n in numbers) or numbers[0] > MOST_ATTEMPTS:
        raise ValueError(f"a number is not between 0 and {LARGEST}: {dict(zip(NUMBERS, numbers, strict=True))}")
    return *(str(raw[n]) for n in TEXTS), str(raw["group"]), State(raw["state"]).value, *numbers
