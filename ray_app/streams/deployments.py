"""Streams: a Serve deployment around the engine that runs the flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ray import serve


class Runs(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def alive(self) -> bool: ...


class Streams:
    """`make` builds the engine here, in the replica, so that no connection is ever pickled."""

    def __init__(self, make: Callable[[], Runs]) -> None:
        self._engine = make()
        self._engine.start()

    async def check_health(self) -> None:
        """Fails for a dead thread, never for an absent store: a restart would not bring the store back."""
        if not self._engine.alive():
            raise RuntimeError("a flow's thread has died; Serve restarts this replica")

    async def __del__(self) -> None:
        await asyncio.to_thread(self._engine.stop)


streams: Any = serve.deployment(Streams, name="Streams")
