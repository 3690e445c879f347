"""Patience with hosts: one request at a time, a while apart, over all processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ray_app.content.failed import FetchFailed

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST_WAIT_S = 30.0  # who would wait longer lets its slot go
MOST_DELAY_S = 30.0  # that a robots.txt may ask for
MOST_HELD_S = 3600.0  # that a Retry-After may ask for


class Pace:
    """A key a host in Redis, which goes when the next request may come."""

    def __init__(self, redis: Redis, prefix: str, delay_s: float) -> None:
        self._redis, self._prefix, self._delay_s = redis, prefix, delay_s

    async def turn(self, host: str, delay_s: float = 0.0) -> None:
        """Returns when it is our turn; the next one has to wait content.delay_s, or `delay_s` where that is more.
        Raises FetchFailed, to be tried again, when that would take longer than MOST_WAIT_S."""
        apart = max(1, int(1000 * max(self._delay_s, min(delay_s, MOST_DELAY_S))))
        ends = asyncio.get_running_loop().time() + MOST_WAIT_S
        while not await self._redis.set(self._key(host), b"1", nx=True, px=apart):
            left_s = max(int(await self._redis.pttl(self._key(host))), 1) / 1000
            if asyncio.get_running_loop().time() + left_s > ends:
                raise FetchFailed(f"host {host} is not to be asked for {left_s:.0f} s", again=True, after_s=left_s)
            await asyncio.sleep(left_s)

    async def hold(self, host: str, seconds: float) -> None:
        """The host asked to be left alone."""
        await self._redis.set(self._key(host), b"1", px=max(1, int(1000 * min(seconds, MOST_HELD_S))))

    def _key(self, host: str) -> str:
        return f"{self._prefix}:content:host:{host}"
