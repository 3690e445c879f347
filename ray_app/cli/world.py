"""The stores for one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import RedisError

from ray_app import config
from ray_app.errors import Unavailable

if TYPE_CHECKING:
    from ray_app.wiring.stores import World

T = TypeVar("T")


def with_world(work: Callable[[World], Awaitable[T]]) -> T:
    """What `work` returns, given the stores that the settings name; they are closed after it. Raises Unavailable when
    one that it needs is away."""
    from ray_app.wiring import open_world

    async def inside() -> T:
        async with open_world(config.load()) as world:
            return await work(world)

    try:
        return asyncio.run(inside())
    except RedisError as e:
        raise Unavailable(f"the state store did not answer: {e}. What is wrong: lemo check") from e
