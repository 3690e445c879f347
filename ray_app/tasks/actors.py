"""The detached Scheduler. It holds its place in the cluster; it has no schedules yet."""

from __future__ import annotations

import os

from ray_app.clock import SystemClock


class Scheduler:
    """One per cluster, found by its name; Steward makes it again when it is gone."""

    def __init__(self) -> None:
        self._since = SystemClock().now()

    def status(self) -> dict[str, int]:
        """pid, and since when (ms) this incarnation has run."""
        return {"pid": os.getpid(), "since": self._since}
