"""The history of tasks: every attempt that ended, as the flow `tasks` has written it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_app.analytics.examples import named

if TYPE_CHECKING:
    from ray_app.stores.olap import Olap

QUERY = named(Path(__file__).parent / "tasks.sql")["task_history"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which attempts: those that ended before `before` (ms), at most `n`; "" is any."""

    before: int
    n: int
    tenant: str = ""
    id: str = ""
    task: str = ""
    state: str = ""
    group: str = ""


class History:
    def __init__(self, olap: Olap) -> None:
        self._olap = olap

    async def read(self, wanted: Wanted) -> list[dict[str, Any]]:
        """The newest first. Raises Unavailable while analytics is away."""
        asked = {f: getattr(wanted, f) for f in ("before", "n", "tenant", "id", "task", "state", "group")}
        return await self._olap.query(QUERY, asked)
