"""A clock, a state store and documents for the unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from ray_app.clock import FixedClock
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.redis import connect
from tests.unit.make import NOW

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def documents(clock: FixedClock) -> MemoryDocuments:
    return MemoryDocuments(clock)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()
