"""What many collections and batches leave: no page twice, none forgotten, and nobody's task taken for another's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from ray_app.access.keys import Keys
from ray_app.content import source, sync
from ray_app.content.document import Document, Found, Kept, Status
from ray_app.content.source import Sources
from ray_app.content.tasks import Nothing, SourceAsk, collect_all_sources, collect_from_source
from ray_app.tasks.task import State, Submission, Task
from ray_app.tasks.work import Parked
from ray_app.wiring.stores import World
from tests.tasks_world import TasksWorld
from tests.unit.content.test_tasks import T, done, id_of, publish, put
from tests.web import Web

pytestmark = pytest.mark.long


async def test_an_hourly_source_is_due_at_an_hourly_collection(web: Web, tasks: TasksWorld, world: World) -> None:
    """The schedule's hours are not exact, and a collection takes its time."""
    publish(web)
    await put(world, "hourly", web, "/feed", every=3600)
    kept = Sources(world.documents, world.clock, T)
    now = world.clock.now()
    for ago_s, asked in ((3300, 1), (3200, 1)):
        await kept.tell("hourly", replace(await kept.state("hourly"), collected_at=now - ago_s * 1000))
        await done(tasks, "collect_all_sources")
        assert web.paths().count("/feed") == asked


async def test_what_waits_already_is_not_submitted_again(web: Web, world: World) -> None:
    """Else a queue that is behind would get a task more of each page with every collection."""
    publish(web)
    await put(world, "gazette", web, "/feed")
    first, second, other = Told(world), Told(world), Told(world, "other")
    await collect_from_source(SourceAsk(source_id="gazette"), cast(Any, first))
    await collect_from_source(SourceAsk(source_id="gazette"), cast(Any, second))
    assert len(first.asked) == 3
    assert second.asked == first.asked
    kept = Kept(world.documents, world.clock, T)
    tea = await kept.get(id_of(web, "/tea"))
    await kept.put(replace(tea, raw="another"))
    anew = Told(world)
    await collect_from_source(SourceAsk(source_id="gazette"), cast(Any, anew))
    assert len(anew.asked - first.asked) == 1  # the page that was fetched anew
    made = source.parse("gazette", {"kind": "rss", "url": web.url("/feed")})
    await Sources(world.documents, world.clock, "other").put(made)
    await collect_from_source(SourceAsk(source_id="gazette"), cast(Any, other))
    assert not other.asked & first.asked


class Told:
    """A run that notes which tasks it is to submit."""

    attempt, id, trace = 1, "task-1", ""

    def __init__(self, stores: World, tenant: str = T) -> None:
        self.stores, self.tenant = stores, tenant
        self.asked: set[str | None] = set()
        self.gathered: list[Submission] = []

    async def progress(self, done: int, total: int = 0, note: str = "") -> None: ...

    async def gather(self, *asked: Submission) -> list[Task]:
        self.gathered += asked
        raise Parked

    async def submit(self, *asked: Submission) -> list[str]:
        self.asked |= {one.id for one in asked}
        return []


async def test_a_batch_that_has_no_time_left_hands_on_the_rest(
    web: Web, tasks: TasksWorld, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "BATCH_S", -1.0)  # enough for one document
    kept = Kept(world.documents, world.clock, T)
    ids = [f"d{k}" for k in range(4)]
    await kept.put(*(Document(i, web.url(f"/{i}"), Status.FETCHED, 1, said=Found(title=f"Title {i}")) for i in ids))
    task = await done(tasks, "batch_process", {"document_ids": ids})
    assert task.state is State.SUCCESS
    assert {d.status for d in (await kept.get_many(ids)).values()} <= {Status.INDEXED, Status.DUPLICATE}
    assert task.result == {"processed": 4, "failed": []}


async def test_a_source_may_be_called_as_a_step_is(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    for id in ("part-0", "index"):
        await put(world, id, web, "/feed")
    task = await done(tasks, "sync_pipeline")
    assert task.state is State.SUCCESS
    assert task.result["collect"]["sources"] == 2
    assert task.result["process"] == {"processed": 3, "failed": 0}


async def test_no_tenant_gets_the_task_of_another_for_its_own(web: Web, world: World) -> None:
    """`a-s` is a tenant, and `s` a source of tenant `a`."""
    for tenant in ("a", "a-s"):
        await Keys(world.documents, world.clock).create(tenant)
        made = source.parse("s", {"kind": "rss", "url": web.url("/feed")})
        await Sources(world.documents, world.clock, tenant).put(made)
    house = Told(world, "system")
    with pytest.raises(Parked):
        await collect_all_sources(Nothing(), cast(Any, house))
    of_tenant = {one.tenant: one.id for one in house.gathered}
    inner = Told(world, "a")
    inner.id = str(of_tenant["a"])
    with pytest.raises(Parked):
        await collect_all_sources(Nothing(), cast(Any, inner))
    assert len(of_tenant) == 2
    assert inner.gathered[0].id not in of_tenant.values()
