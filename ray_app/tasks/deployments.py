"""Workers: Serve deployments around the guards that run tasks. Steward: one that keeps the detached actors alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ray import serve

DRAIN_S = 5.0  # a running task has this long when its replica ends; then it is given back


class Runs(Protocol):
    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def drain(self, seconds: float) -> None: ...


class Workers:
    """One pool's slots. `make` starts nothing yet: it returns the worker, what tells of its queues, and what closes
    that."""

    def __init__(
        self, make: Callable[[], tuple[Runs, Callable[[], Awaitable[dict[str, float]]], Callable[[], Awaitable[None]]]]
    ) -> None:
        self._worker, self._backlog, self._close = make()
        self._worker.start()

    async def check_health(self) -> None:
        """Fails where no guard runs, never for an absent store."""
        if not self._worker.alive():
            raise RuntimeError("the guard has ended; Serve restarts this replica")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy ByBacklog reads. The name is Serve's."""
        return await self._backlog()

    async def __del__(self) -> None:
        await asyncio.to_thread(self._worker.drain, DRAIN_S)
        await self._close()


def workers(pool: str = "") -> Any:
    """Of the one pool of a laptop, or of that name."""
    return serve.deployment(Workers, name=f"Workers-{pool}" if pool else "Workers")


class Steward:
    """`ensure` makes the detached actors that are absent and returns their handles."""

    def __init__(self, ensure: Callable[[], list[Any]]) -> None:
        self._ensure = ensure
        ensure()

    async def check_health(self) -> None:
        """Called by Serve every few seconds; a detached actor that was lost is made again here."""
        for actor in self._ensure():
            await actor.status.remote()


steward: Any = serve.deployment(Steward, name="Steward")
