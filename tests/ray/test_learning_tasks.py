"""Batch work as tasks of the running system: each follows its Ray Job and answers with what the job told."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from ray_app.stores.base import Document
from ray_app.tasks.task import ENDED, State, Submission
from ray_app.training.federated.federate import MODEL
from ray_app.types import DAY_MS
from ray_app.wiring.stores import World
from tests.ray.conftest import Shop
from tests.ray.test_jobs import TENANT, taught

pytestmark = pytest.mark.timeout(1700)
STORES = ("north", "south", "west")
ASKED: dict[str, dict[str, Any]] = {
    "generate-item-vectors": {},
    "compute-item-similarity-hourly": {},
    "app.tasks.user_tasks.update_user_profiles": {},
    "train-model-daily": {"policy": "staged"},
    "precompute-recommendations-4hours": {},
    "src.core.celery_tasks.train_federated_model": {"store_id": "north", "model_type": MODEL, "rounds": 4},
}


def test_every_batch_task_follows_its_job(shop: Shop) -> None:
    asyncio.run(_all(shop))


async def _all(shop: Shop) -> None:
    async with taught(shop) as (world, _):
        await _orders(world)
        ids = await world.queue.submit(*(Submission(name, ask, TENANT) for name, ask in ASKED.items()))
        async with asyncio.timeout(1500):
            tasks = [await _ended(world, id) for id in ids]
        results = {}
        for task in tasks:
            assert task.state is State.SUCCESS, (task.name, task.error)
            results[task.name] = task.result
        _look(results)
        version = await world.registry.get(TENANT, MODEL, results["train_federated_model"]["version"])
        assert [r["answered"] for r in version.about["rounds"]] == [3] * 4


def _look(found: dict[str, Any]) -> None:
    assert found["generate-item-vectors"] == {"items": 60, "vectors": 60}
    similar = found["compute-item-similarity-hourly"]
    assert (similar["items"], similar["shards"]) == (60, 1)
    assert similar["versions"]["item_cf"]
    assert found["update-user-profiles-2hours"] == {"users": 60}
    trained = found["train-model-daily"]
    assert trained["status"] in ("staged", "refused")
    assert trained["metrics"]
    assert found["precompute-recommendations-4hours"]["users"] == 60
    assert found["precompute-recommendations-4hours"]["lists"] > 6
    federated = found["train_federated_model"]
    assert (federated["model"], federated["rounds"]) == (MODEL, 4)
    assert 0 < federated["metrics"]["store_wape"] < 2


async def _ended(world: World, id: str) -> Any:
    while (task := await world.queue.wait(id, 30.0)).state not in ENDED:
        pass
    return task


async def _orders(world: World) -> None:
    """Half a year of daily orders of three stores, as neural events leave them."""
    drawn, now = np.random.default_rng(0), world.clock.now()
    for name in STORES:
        body = {"id": name, "tenant": TENANT}
        await world.documents.upsert("system", "stores", [Document(name, 1, body)])
        orders = [
            Document(f"{name}-{day}", 1, {
                "store_id": name, "at": now - day * DAY_MS - 1, "cancelled": False,
                "lines": [{"dish_id": f"d{d}", "quantity": int(drawn.poisson(2 + d)), "price": 1.0} for d in range(6)],
            })
            for day in range(180)
        ]  # fmt: skip
        await world.documents.upsert(TENANT, "orders", orders)
