"""The product without Ray: the embedded stores, the engine of the flows and the HTTP door, once for all stories."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.config import Logs, Serving, Settings
from ray_app.serving.http import build
from ray_app.stores.embedded import Embedded
from tests.story.shop import PATIENT, Shop, history, items, within

House = Callable[[], Awaitable[Shop]]


@pytest.fixture(scope="session")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    traced = Serving(traces_per_s=20)  # the answers of all stories: at the rate by default the last ones are not kept
    found = Settings(data=tmp_path_factory.mktemp("house"), logs=Logs(level="ERROR"), serving=traced)
    stores = Embedded(found.data)
    stores.start()
    engine = wiring.engine(found)
    engine.start()
    yield found
    assert engine.alive()
    engine.stop()
    stores.stop()


@pytest.fixture(scope="session")
async def open_shop(settings: Settings) -> AsyncIterator[House]:
    """Each call: a new tenant with the items of the shop, and nothing else."""
    world, app = wiring.world(settings), await wiring.open_app(settings)
    keys, numbers, clients = Keys(world.documents, world.clock), count(), list[httpx.AsyncClient]()

    async def open() -> Shop:
        tenant = f"shop-{next(numbers)}"
        key = {"X-API-Key": await keys.create(tenant)}
        transport = httpx.ASGITransport(build(lambda: app))
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://lemo", headers=key))
        shop = Shop(tenant, clients[-1], app, world)
        for scenario in PATIENT.values():
            await shop.set_scenario(scenario)
        await shop.write(items())
        return shop

    yield open
    for client in clients:
        await client.aclose()
    async with asyncio.timeout(20):  # a replica that does not end would hold up every rolling restart
        await app.close()
        await world.close()


@pytest_asyncio.fixture(loop_scope="session")
async def new_shop(open_shop: House) -> Shop:
    """A tenant of the test's own, without history."""
    return await open_shop()


@pytest.fixture(scope="session")
async def shop(open_shop: House) -> Shop:
    """A tenant with a history and everything learned from it; a test takes customers of its own."""
    opened = await open_shop()
    await opened.remember(history(opened.tenant, opened.app.clock.now() - 3_600_000))
    versions = {}
    for report in await opened.learn():
        assert report.version, report.why
        versions[report.name] = report.version
    await within(10, lambda: opened.serves(versions))
    return opened


@pytest.fixture(scope="session")
def data(settings: Settings) -> Path:
    return settings.data
