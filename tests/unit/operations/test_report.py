"""The weekly report, from behaviours and answers in ClickHouse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from ray_app.operations import report
from ray_app.operations.report import WEEK_MS, weekly
from ray_app.tasks.task import State
from ray_app.types import DAY_MS
from ray_app.wiring.handlers import HANDLERS
from ray_app.wiring.stores import World
from tests.tasks_world import NOBODY, TasksWorld, settings_of

END = 1_800_000_000_000 // DAY_MS * DAY_MS
BEHAVIORS = ("tenant", "event_id", "visitor", "item_id", "type", "occurred_at")
SLATES = ("tenant", "request_id", "scenario", "visitor", "answered_at")


@pytest.fixture
async def week(house: World) -> World:
    """Tenant one: 8 impressions, 4 clicks, 1 purchase of three visitors on two days; something before and after."""
    rows = [("one", f"e{k}", f"u:{k % 3}", f"i{k % 2}", "impression", END - DAY_MS + k) for k in range(8)]
    rows += [("one", f"c{k}", f"u:{k % 3}", "<b>", "click", END - 2 * DAY_MS + k) for k in range(4)]
    rows += [("one", "p", "u:0", "<b>", "purchase", END - 1), ("one", "old", "u:9", "i0", "click", END - WEEK_MS - 1)]
    rows += [("one", "new", "u:9", "i0", "click", END), ("two", "x", "u:0", "i0", "click", END - 1)]
    await house.olap.insert("behaviors", BEHAVIORS, [*rows, rows[0]])  # the last came twice
    slates = [("one", f"r{k}", "home", f"u:{k % 2}", END - DAY_MS + k) for k in range(5)]
    await house.olap.insert("slates", SLATES, slates)
    version = await house.registry.register("one", "ranker", {"weights": np.ones(2)}, {"ndcg@20": 0.25})
    await house.registry.promote("one", version)
    return house


async def test_the_figures_are_those_of_the_week(week: World) -> None:
    made = await weekly(week, "one", END + 5_000)
    assert made["id"] == "2027-01-14"
    assert made["totals"] == {
        "impressions": 8, "clicks": 4, "purchases": 1, "active": 3, "answers": 5, "ctr": 0.5, "conversion": 0.25,
    }  # fmt: skip
    assert [d["answers"] for d in made["days"]] == [0, 0, 0, 0, 0, 0, 5]
    assert [d["clicks"] for d in made["days"]] == [0, 0, 0, 0, 0, 4, 0]
    assert made["items"][0] == {"item_id": "<b>", "impressions": 0, "clicks": 4, "purchases": 1, "ctr": None}
    assert [m["name"] for m in made["models"]] == ["ranker"]
    assert made["health"] is None


async def test_it_is_a_document_and_two_files_and_the_page_escapes(week: World) -> None:
    made = await weekly(week, "one", END)
    stored = await week.documents.get("one", report.KIND, made["id"])
    assert stored is not None
    assert week.blobs.names(stored.body["files"]) == ["report.html", "report.json"]
    assert orjson.loads(week.blobs.get(f"{stored.body['files']}/report.json") or b"") == made
    page = (week.blobs.get(f"{stored.body['files']}/report.html") or b"").decode()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "50.00%" in page
    assert "$" not in page


async def test_a_tenant_without_traffic_has_a_report_of_nothing(house: World) -> None:
    made = await weekly(house, "two", END + 400 * DAY_MS)
    assert made["totals"]["ctr"] is None
    assert made["items"] == []


async def test_a_task_of_the_house_makes_one_for_each_tenant(week: World, tasks: TasksWorld) -> None:
    id = await tasks.submit("atlas.scheduler.celery_tasks.weekly_report", {"until": END})
    theirs = await tasks.submit("weekly_report", {"tenant": "two", "until": END}, tenant="one")
    await tasks.work_off()
    found = await tasks.queue.get(id)
    assert found.state is State.SUCCESS, found.error
    assert found.result == {"reports": {"one": "2027-01-14", "two": "2027-01-14"}, "failed": {}}
    two = await week.documents.get("two", report.KIND, "2027-01-14")
    assert two is not None
    assert two.body["totals"]["clicks"] == 1
    assert (await tasks.queue.get(theirs)).state is State.FAILURE


async def test_it_fails_where_no_tenant_has_one(house: World, redis_url: str, tmp_path: Path) -> None:
    """Else a week without reports would look well to its schedule."""
    tasks = TasksWorld(settings_of(redis_url, tmp_path, NOBODY), HANDLERS)
    id = await tasks.submit("weekly_report", {"until": END})
    await tasks.work_off()
    found = await tasks.queue.get(id)
    assert (found.state, found.attempt) == (State.FAILURE, 1)
    assert "weekly_report succeeded for no tenant: one: Unavailable" in found.error
    await tasks.close()
