"""Three API keys before one task queue that a real worker serves with the tests' handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM
from ray_app.config import Settings
from ray_app.serving.http import build
from ray_app.stores.embedded import addresses
from ray_app.wiring.stores import World
from tests.crash.handlers import HANDLERS
from tests.story.shop import Shop
from tests.tasks_world import TasksWorld

TENANT_TASKS = "/api/v1/tasks"


@dataclass
class Office:
    """Clients of one tenant, an operator and another tenant, and the queue with a worker of the tests' handlers."""

    mine: httpx.AsyncClient
    operator: httpx.AsyncClient
    other: httpx.AsyncClient
    tasks: TasksWorld
    shop: Shop

    @property
    def world(self) -> World:
        """The stores with this queue."""
        return replace(self.shop.world, settings=self.tasks.settings, queue=self.tasks.queue)

    async def submit(self, body: dict[str, Any], client: httpx.AsyncClient | None = None) -> dict[str, Any]:
        answer = await (client or self.mine).post(TENANT_TASKS, json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ended(self, id: str, client: httpx.AsyncClient | None = None) -> dict[str, Any]:
        answer = await (client or self.mine).get(f"{TENANT_TASKS}/{id}", params={"wait_s": "20"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["ended_at"], found
        return found

    async def refused(self, body: Any, client: httpx.AsyncClient | None = None) -> dict[str, Any]:
        answer = await (client or self.mine).post(TENANT_TASKS, json=body)
        assert 400 <= answer.status_code < 500, answer.text
        found: dict[str, Any] = answer.json()
        return found


@asynccontextmanager
async def opened(settings: Settings, shop: Shop) -> AsyncIterator[Office]:
    """Retries and leases are short, and the queue is its own."""
    short = {"retry_first_s": 0.05, "retry_max_s": 0.1, "lease_s": 2.0}
    stores = settings.stores.model_copy(
        update={"redis_url": addresses(settings.data).redis_url, "redis_prefix": f"of-{shop.tenant}"}
    )
    chosen = settings.model_copy(update={"stores": stores, "tasks": settings.tasks.model_copy(update=short)})
    tasks = TasksWorld(chosen, HANDLERS)
    app = replace(shop.app, settings=chosen, queue=tasks.queue)
    keys, clients = Keys(shop.world.documents, shop.world.clock), []
    for tenant in (shop.tenant, SYSTEM, f"not-{shop.tenant}"):
        transport, key = httpx.ASGITransport(build(lambda: app)), {"X-API-Key": await keys.create(tenant)}
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://lemo", headers=key, timeout=60))
    tasks.start_worker()
    yield Office(*clients, tasks, shop)
    for client in clients:
        await client.aclose()
    await tasks.close()
