"""End background tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.5  # a task that still runs is cancelled again after this


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Returns when all have ended. A client library may swallow one cancellation (redis-py does, now and then), so it
    is repeated."""
    pending = set(tasks)
    while pending:
        for t in pending:
            t.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
