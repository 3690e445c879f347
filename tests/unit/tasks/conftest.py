from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.schedules_world import World


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """An empty Redis, the queue and schedules; nothing works on the tasks by itself."""
    made = World(redis_url, tmp_path)
    yield made
    await made.close()
