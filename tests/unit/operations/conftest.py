"""A house with real stores, and a queue whose tasks are done in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.wiring.handlers import HANDLERS
from ray_app.wiring.stores import World, world
from tests.tasks_world import TasksWorld, settings_of

TENANTS = ("one", "two")


@pytest.fixture
async def house(redis_url: str, clickhouse_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """SQLite, Redis, chDB and a folder; two tenants have a key."""
    opened = world(settings_of(redis_url, tmp_path, clickhouse_url))
    for tenant in TENANTS:
        await Keys(opened.documents, opened.clock).create(tenant)
    yield opened
    await opened.close()


@pytest.fixture
async def tasks(house: World) -> AsyncIterator[TasksWorld]:
    made = TasksWorld(house.settings, HANDLERS)
    yield made
    await made.close()


@pytest.fixture
def pool(house: World):  # type: ignore[no-untyped-def]
    return wiring.pool(house)
