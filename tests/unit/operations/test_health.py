"""Health: what fails is named, and each change is one alert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from ray_app.clock import FixedClock
from ray_app.errors import Forbidden, InvalidField, Unavailable
from ray_app.events.base import Entry
from ray_app.operations import health
from ray_app.operations.health import ALERTS, HEALTH, STATUS, check
from ray_app.operations.pool import Pool
from ray_app.operations.schedules import check as schedule_check
from ray_app.serving.submissions import Context
from ray_app.serving.submissions import parse as submission
from ray_app.stores.olap import Olap
from ray_app.tasks.names import Names
from ray_app.tasks.queue import Queue
from ray_app.tasks.schedule import parse
from ray_app.tasks.task import State, Submission
from ray_app.types import DAY_MS
from ray_app.wiring.handlers import HANDLERS
from ray_app.wiring.stores import World
from tests.tasks_world import NOBODY, TasksWorld

STORES = {"documents", "state", "vectors", "analytics", "event log", "blobs"}


async def alerts(house: World) -> list[tuple[str, str]]:
    found = await house.documents.find("system", ALERTS)
    return [(d.body["part"], d.body["state"]) for d in sorted(found, key=lambda d: (d.body["at"], d.id))]


async def test_a_house_that_is_well_says_so_without_an_alert(house: World, pool: Pool) -> None:
    found = await check(house, pool)
    assert set(found["parts"]) == STORES | {"flows", "tasks", "models"}
    assert (found["status"], found["failed"], found["alerts"]) == ("well", [], [])
    written = await house.documents.get("system", STATUS, HEALTH)
    assert written is not None
    assert written.body["status"] == "well"


async def test_a_store_that_fails_and_recovers_is_one_alert_each(house: World, pool: Pool) -> None:
    away = replace(house, olap=Olap(NOBODY, timeout_s=2))
    assert (await check(away, pool))["failed"] == ["analytics"]
    again = await check(away, pool)
    assert (again["failed"], again["alerts"]) == (["analytics"], [])
    assert again["parts"]["analytics"]["since"] < again["at"]
    assert (await check(house, pool))["status"] == "well"
    assert await alerts(house) == [("analytics", "failed"), ("analytics", "recovered")]
    await check(away, pool)
    assert (await alerts(house))[2:] == [("analytics", "failed")]
    await away.olap.close()


async def events(house: World) -> list[dict[str, Any]]:
    found = [
        one
        for partition in range(await house.log.partitions("alerts"))
        for one in await house.log.read("alerts", partition, 0, 100)
    ]
    return [orjson.loads(one.body) for one in sorted(found, key=lambda one: one.appended_at)]


async def test_an_alert_is_an_event_too_once_the_log_takes_it(
    house: World, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = replace(house, olap=Olap(NOBODY, timeout_s=2))

    async def refuse(topic: str, entries: object) -> None:
        raise Unavailable("no broker answers")

    monkeypatch.setattr(house.log, "append", refuse)
    await check(away, pool)
    monkeypatch.undo()
    assert await events(house) == []
    await check(house, pool)
    await check(house, pool)
    told = await events(house)
    assert [(e["event_type"], e["part"]) for e in told] == [
        ("alert.failed", "analytics"), ("alert.recovered", "analytics"),
    ]  # fmt: skip
    assert {e["event_id"] for e in told} == {d.id for d in await house.documents.find("system", ALERTS)}
    await away.olap.close()


async def test_a_check_that_was_cut_makes_the_same_alert_again(
    house: World, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = replace(house, olap=Olap(NOBODY, timeout_s=2))
    await check(house, pool)
    upsert = house.documents.upsert

    async def cut(tenant: str, kind: str, documents):  # type: ignore[no-untyped-def]
        if kind == STATUS:
            raise ConnectionResetError("killed between the alert and the status")
        return await upsert(tenant, kind, documents)

    monkeypatch.setattr(house.documents, "upsert", cut)
    with pytest.raises(ConnectionResetError):
        await check(away, pool)
    monkeypatch.undo()
    await check(away, pool)
    assert await alerts(house) == [("analytics", "failed")]
    await away.olap.close()


async def test_lag_a_waiting_task_and_an_old_model_are_named(house: World, pool: Pool, tasks: TasksWorld) -> None:
    await house.log.append("behavior-events", [Entry("k", b"{}")])
    assert "hot is 1 events behind, 0 replicas hold it" in (await check(house, pool))["parts"]["flows"]["why"]
    await tasks.queue.submit(Submission("weekly_report", queue="bulk"))
    version = await house.registry.register("one", "ranker", {"weights": np.ones(2)})
    await house.registry.promote("one", version)
    on = FixedClock(house.clock.now() + 31 * DAY_MS)
    queue = Queue(house.redis, house.settings.stores.redis_prefix, house.settings.tasks, on, HANDLERS)
    parts = (await check(replace(house, clock=on, queue=queue), pool))["parts"]
    assert "queue bulk: the oldest waits for" in parts["tasks"]["why"]
    assert parts["models"]["why"] == "ranker of one is 31 days old"


async def test_a_part_that_hangs_is_not_waited_for(house: World, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(health, "TIMEOUT_S", 0.05)
    found = await check(house, pool, {"schedules": never})
    assert found["parts"]["schedules"]["why"] == "no answer within 0.05 s"


async def test_it_is_a_task_of_the_house(house: World, tasks: TasksWorld) -> None:
    ours, theirs = await tasks.submit("health_check"), await tasks.submit("health_check", tenant="one")
    await tasks.work_off()
    found = await tasks.queue.get(ours)
    assert found.state is State.SUCCESS, found.error
    assert found.result["status"] == "well"
    assert "may not" in (await tasks.queue.get(theirs)).error


@pytest.mark.parametrize("name", ["health_check", "daily_cleanup", "cleanup-expired-cache-daily"])
def test_what_keeps_the_house_is_of_no_tenant_at_any_door(name: str) -> None:
    names = Names(HANDLERS)
    context = Context("one", "one", names, ("default",), 0)
    with pytest.raises(Forbidden, match="for operators"):
        submission({"name": name}, context)
    ours = {"id": "a", "handler": name, "every_s": 60}
    assert schedule_check(parse(ours), names)
    with pytest.raises(InvalidField, match="tenant is 'one'; allowed: system"):
        schedule_check(parse({**ours, "tenant": "one"}), names)
