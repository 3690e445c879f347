"""Wait until flows have applied what was appended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ray_app.events.base import Appended, Place
from ray_app.streams.state import position_key

if TYPE_CHECKING:
    from redis.asyncio import Redis

POLL_S = 0.01


async def wait_applied(
    redis: Redis, prefix: str, flows: Iterable[str], appended: Sequence[Appended], timeout_s: float
) -> bool:
    """True when every flow stands behind every appended entry; False when the time is over."""
    last: dict[Place, int] = {}
    for a in appended:
        last[a.topic, a.partition] = max(a.position, last.get((a.topic, a.partition), -1))
    wanted = {position_key(prefix, f, place): at for f in flows for place, at in last.items()}
    ends = asyncio.get_running_loop().time() + timeout_s
    while wanted:
        found = await redis.mget(list(wanted))
        wanted = {k: at for (k, at), v in zip(list(wanted.items()), found, strict=True) if int(v or 0) <= at}
        if wanted and asyncio.get_running_loop().time() > ends:
            return False
        if wanted:
            await asyncio.sleep(POLL_S)
    return True
