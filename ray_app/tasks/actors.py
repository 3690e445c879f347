"""The detached Scheduler: found by its name, it outlives every replica; what it runs is made by a factory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

from ray_app.clock import SystemClock

logger = logging.getLogger(__name__)


class Runs(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def alive(self) -> bool: ...
    def leads(self) -> bool: ...


class Scheduler:
    """One per cluster; Steward makes it again when it is gone. Of two clusters on one Redis one leads."""

    def __init__(self, make: Callable[[], Runs]) -> None:
        self._since, self._runs = SystemClock().now(), make()
        self._runs.start()

    def status(self) -> dict[str, Any]:
        """pid, since when (ms) this incarnation has run, and whether it leads. Ends the process where the loop's thread
        has died, so that Ray starts another one."""
        if not self._runs.alive():
            logger.error("the scheduler's thread has died; Ray starts the actor again")
            os._exit(1)
        return {"pid": os.getpid(), "since": self._since, "leads": self._runs.leads()}

    def leave(self) -> None:
        """Hand the lease over, before this one is ended: the next one leads at once."""
        self._runs.stop()
