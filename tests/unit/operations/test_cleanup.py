"""What is past its age goes, and what serves or may be gone back to stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_app.catalog import lists
from ray_app.errors import InvalidField, NotFound
from ray_app.events.base import Entry, Logged
from ray_app.operations import cleanup
from ray_app.registry.version import Status
from ray_app.stores.base import Document
from ray_app.streams.letters import Letters, letter
from ray_app.tasks.task import State
from ray_app.types import DAY_MS
from ray_app.wiring.stores import World
from tests.tasks_world import TasksWorld

TENANT = "one"


def later(house: World, days: int) -> World:
    """The same house, some days on."""
    from ray_app.clock import FixedClock

    return replace(house, clock=FixedClock(house.clock.now() + days * DAY_MS))


async def test_artifacts_beyond_the_newest_go_with_their_files(house: World) -> None:
    made = []
    for k in range(9):
        parts = {"weights": np.full(3, float(k))}
        version = await house.registry.register(TENANT, "ranker", parts)
        made.append(await house.registry.promote(TENANT, version))
    never = await house.registry.register(TENANT, "other", {"weights": np.ones(2)})
    found = await cleanup.caches(house)
    left = [v.id for v in await house.registry.list(TENANT, "ranker")]
    assert found["artifacts"] == 3
    assert set(left) == {v.id for v in made[3:]}  # the live one, and five to go back to
    assert not house.blobs.names(f"{TENANT}/models/ranker/{made[0].id}")
    assert [v.id for v in await house.registry.list(TENANT, "other")] == [never.id]
    with pytest.raises(NotFound):
        await house.registry.get(TENANT, "ranker", made[0].id)
    assert (await house.registry.rollback(TENANT, "ranker")).id == made[-2].id
    assert (await cleanup.caches(house))["artifacts"] == 0


async def test_what_serves_cannot_be_forgotten(house: World) -> None:
    version = await house.registry.register(TENANT, "ranker", {"weights": np.ones(2)})
    live = await house.registry.promote(TENANT, version)
    with pytest.raises(InvalidField, match="retire it first"):
        await house.registry.forget(TENANT, live)
    assert live.status is Status.LIVE


async def test_old_lists_and_runs_go_and_young_ones_stay(house: World) -> None:
    now = house.clock.now()
    await house.documents.upsert(TENANT, lists.KIND, [lists.document("home", "", ["a"], now - 8 * DAY_MS)])
    await house.documents.upsert(TENANT, lists.KIND, [lists.document("home", "tea", ["a"], now - DAY_MS)])
    runs = [Document(f"train-{d}", 1, {"job": "train", "started_at": now - d * DAY_MS}) for d in (1, 91)]
    await house.documents.upsert(TENANT, cleanup.RUNS, runs)
    found = await cleanup.caches(house)
    assert (found["lists"], found["runs"]) == (1, 1)
    assert await lists.popular(house.documents, TENANT, "home") is None
    assert await lists.popular(house.documents, TENANT, "home", "tea") is not None
    assert [d.id for d in await house.documents.find(TENANT, cleanup.RUNS)] == ["train-1"]
    on = later(house, 8)
    assert (await cleanup.caches(on))["tombstones"] >= 2


async def test_dead_letters_past_their_age_are_let_go(house: World, tasks: TasksWorld) -> None:
    broken = Logged("behavior-events", 0, 7, house.clock.now(), "k", b"{")
    entry = letter("hot", "no JSON", broken)
    await house.log.append("behavior-events.dlq", [Entry(entry.key, entry.body)])
    assert await cleanup.letters(house) == {"letters": 0, "tasks": 0}
    failed = await tasks.submit("cleanup-expired-cache-daily", tenant=TENANT)  # of a tenant: it may not
    await tasks.work_off()
    assert (await tasks.queue.get(failed)).state is State.FAILURE
    assert await cleanup.letters(later(house, 31)) == {"letters": 1, "tasks": 1}
    letters = Letters(house.log, house.redis, house.settings.stores.redis_prefix)
    assert [x async for x in letters.read("behavior-events")] == []
    assert await tasks.queue.dead() == []


async def test_both_cleanups_are_tasks(house: World, tasks: TasksWorld) -> None:
    for k in range(9):
        version = await house.registry.register(TENANT, "ranker", {"weights": np.full(3, float(k))})
        await house.registry.promote(TENANT, version)
    ids = [await tasks.submit(name) for name in ("app.tasks.recommendation_tasks.cleanup_expired_cache",
                                                 "atlas.scheduler.celery_tasks.daily_cleanup")]  # fmt: skip
    await tasks.work_off()
    caches, daily = [await tasks.queue.get(i) for i in ids]
    assert caches.state is State.SUCCESS, caches.error
    assert caches.result["deleted"] == caches.result["artifacts"] == 3
    assert daily.result["deleted"] == 0
