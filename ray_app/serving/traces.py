"""Decision traces: kept in Redis for a while, written after the answer, and never in a request's way."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from redis.exceptions import RedisError

from ray_app.cancel import cancel
from ray_app.clock import Clock
from ray_app.config import Serving
from ray_app.errors import NotFound, Unavailable
from ray_app.recommend import Decision
from ray_app.recommend.trace import trace_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)
BURST_S = 60.0  # of the allowed rate may come at once
MOST_WAITING = 200  # each holds the state of the catalogue that it was made from
BATCH, PAUSE_S = 20, 0.2


class Traces:
    """At most `traces_per_s` on average from this replica, so that Redis holds a known amount at any load: some 10 kB
    each, for `trace_keep_s`. `skipped` counts the others."""

    def __init__(self, redis: Redis, prefix: str, clock: Clock, settings: Serving) -> None:
        self._redis, self._prefix, self._clock, self._settings = redis, prefix, clock, settings
        self._waiting: list[Decision] = []
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._tokens, self._at = self._most(), clock.monotonic()
        self.skipped = 0

    def put(self, decision: Decision) -> None:
        if len(self._waiting) >= MOST_WAITING or not self._allowed():
            self.skipped += 1
            return
        self._waiting.append(decision)
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name="traces")

    async def get(self, tenant: str, request_id: str) -> dict[str, Any]:
        """Raises NotFound for what was never kept or is over, and Unavailable."""
        await self._quietly()
        try:
            found: Any = await self._redis.get(self._key(tenant, request_id))
        except (RedisError, OSError) as e:
            raise Unavailable(f"traces are away with the state store: {type(e).__name__}") from None
        if found is None:
            s = self._settings
            raise NotFound(
                f"no trace of request {request_id[:80]!r} is kept. A replica keeps {s.traces_per_s:g} a second, each "
                f"for {s.trace_keep_s} s (settings serving.traces_per_s and serving.trace_keep_s)",
                field="request_id", value=request_id[:80],
            )  # fmt: skip
        trace: dict[str, Any] = await asyncio.to_thread(lambda: orjson.loads(zlib.decompress(found)))
        return trace

    async def flush(self) -> None:
        """Write what waits now; returns when it can be read."""
        async with self._writing:
            while batch := self._waiting[:BATCH]:
                await self._keep(batch)
                del self._waiting[: len(batch)]

    async def _keep(self, batch: Sequence[Decision]) -> None:
        bodies = await asyncio.to_thread(_bodies, batch)
        async with self._redis.pipeline(transaction=False) as pipe:
            for decision, body in zip(batch, bodies, strict=True):
                key = self._key(decision.slate.tenant, decision.slate.request_id)
                pipe.set(key, body, ex=self._settings.trace_keep_s)
            await pipe.execute()

    async def close(self) -> None:
        if self._task is not None:
            async with self._writing:  # between two batches
                await cancel([self._task])
        await self._quietly()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_S)
            await self._quietly()

    async def _quietly(self) -> None:
        """A trace is worth no memory and no second try: what cannot be written is let go."""
        try:
            await self.flush()
        except (RedisError, OSError) as e:
            logger.warning("traces were lost", extra={"count": len(self._waiting), "why": str(e)[:200]})
            self.skipped += len(self._waiting)
            self._waiting.clear()

    def _allowed(self) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(self._most(), self._tokens + (now - self._at) * self._settings.traces_per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _most(self) -> float:
        return self._settings.traces_per_s * BURST_S

    def _key(self, tenant: str, request_id: str) -> str:
        return f"{self._prefix}:trace:{tenant}:{request_id}"


def _bodies(decisions: Sequence[Decision]) -> list[bytes]:
    return [zlib.compress(orjson.dumps(trace_of(d)), 3) for d in decisions]
