"""What operators want of the pool, in one Redis hash: flows that pause, the generation of a flow's state, replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_app.errors import LemoError

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Moved(LemoError):
    """A flow's state was rebuilt and swapped in: whoever runs the old generation opens the flow again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`generation` counts how often the flow's state was rebuilt; each has keys and positions of its own."""

    paused: bool = False
    generation: int = 0


def prefix_of(prefix: str, flow: str, generation: int) -> str:
    """Of the Redis keys of this generation of the flow's state."""
    return f"{prefix}:{flow}.{generation}" if generation else prefix


def generation_field(flow: str) -> str:
    return f"generation:{flow}"


class Control:
    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis, self._prefix = redis, prefix
        self.key = f"{prefix}:streams"

    async def of(self, flow: str) -> Wanted:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(self.key, [f"paused:{flow}", generation_field(flow)])
            pipe.exists(self._hold(flow))
            (paused, generation), held = await pipe.execute()
        return Wanted(paused is not None or bool(held), int(generation or 0))

    async def pause(self, flow: str) -> None:
        """Every member lets the flow's partitions go within a lease's third."""
        await self._redis.hset(self.key, f"paused:{flow}", "1")

    async def resume(self, flow: str) -> None:
        await self._redis.hdel(self.key, f"paused:{flow}")

    async def hold(self, flow: str, seconds: float) -> None:
        """A pause that ends by itself: whoever asked for it may be killed."""
        await self._redis.set(self._hold(flow), "1", px=int(seconds * 1000))

    async def release(self, flow: str) -> None:
        await self._redis.delete(self._hold(flow))

    def _hold(self, flow: str) -> str:
        return f"{self._prefix}:hold:{flow}"

    async def replicas(self) -> int:
        """How many replicas the pool is to have; 0: as the lag asks."""
        return int(await self._redis.hget(self.key, "replicas") or 0)

    async def scale(self, replicas: int) -> None:
        await self._redis.hset(self.key, "replicas", replicas)


class Prefixes:
    """Where readers find each flow's state now. Call `refresh` every second; before the first call: generation 0."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis, self._prefix = redis, prefix
        self._found: dict[str, str] = {}

    def of(self, flow: str) -> str:
        return self._found.get(flow, self._prefix)

    async def refresh(self) -> None:
        found: Any = await self._redis.hgetall(f"{self._prefix}:streams")
        pairs = [(k.decode().removeprefix("generation:"), int(v)) for k, v in found.items() if b"generation:" in k]
        self._found = {flow: prefix_of(self._prefix, flow, generation) for flow, generation in pairs}
