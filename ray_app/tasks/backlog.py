"""What waits in a pool's queues, as its autoscaling policy reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_app.tasks.pools import Pool, parse_queues
from ray_app.tasks.queue import Queue
from ray_app.tasks.scaling import OLDEST_S, WAITING, WANTED

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Backlog:
    def __init__(self, redis: Redis, queue: Queue, pool: Pool) -> None:
        self._redis, self._queue, self._pool = redis, queue, pool

    async def __call__(self) -> dict[str, float]:
        """How many wait, for how long (s) the oldest has, and how many replicas an operator wants (0: as it asks)."""
        wanted: Any = await self._redis.hmget(f"{self._queue.prefix}:pool:{self._pool.name}", ["queues", "replicas"])
        queues = parse_queues(wanted[0].decode(), "queues") if wanted[0] else self._pool.queues
        lines = await self._queue.lengths(queues)
        return {
            WAITING: float(sum(line.length for line in lines)),
            OLDEST_S: max((line.oldest_s for line in lines), default=0.0),
            WANTED: float(wanted[1] or 0),
        }
