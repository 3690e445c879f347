"""Schedules through the HTTP door, by an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from typing import Any

import httpx
import pytest

from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM
from ray_app.serving.http import build
from ray_app.tasks.queue import Queue
from ray_app.tasks.scheduler import Scheduler
from tests.schedules_world import HANDLERS, settled
from tests.story.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROOT = "/api/v1/schedules"
_ids = count()


def queue(shop: Shop) -> Queue:
    """With handlers that do nothing."""
    w = shop.world
    return Queue(w.redis, w.settings.stores.redis_prefix, w.settings.tasks, w.clock, HANDLERS)


@pytest.fixture(scope="session")
async def operator(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    key = {"X-API-Key": await Keys(shop.world.documents, shop.world.clock).create(SYSTEM)}
    app = replace(shop.app, queue=queue(shop))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(build(lambda: app)), base_url="http://lemo", headers=key
    ) as client:
        yield client


@pytest.fixture
def id() -> str:
    return f"s{next(_ids)}"


def said(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


async def decide(shop: Shop) -> None:
    """One scheduler passes by."""
    settings = shop.world.settings.scheduler.model_copy(update={"workers_s": 0.0})
    scheduler = Scheduler(shop.app.schedules, queue(shop), settings, shop.world.clock, "story")
    await settled(scheduler)
    await scheduler.leave()


async def test_from_the_first_put_to_the_end(shop: Shop, operator: httpx.AsyncClient, id: str) -> None:
    body = {"handler": "works", "cron": "0 3 * * *", "zone": "Europe/London", "argument": {"n": 1}}
    made = said(await operator.put(f"{ROOT}/{id}", json=body))
    assert (made["id"], made["overlap"], made["paused"], made["counts"]) == (id, "skip", False, {})
    assert [s["id"] for s in said(await operator.get(ROOT))["schedules"]].count(id) == 1
    paused = said(await operator.post(f"{ROOT}/{id}/pause", json={"note": "a holiday"}))
    assert (paused["paused"], paused["why"]) == (True, "a holiday")
    assert said(await operator.post(f"{ROOT}/{id}/resume", json={}))["paused"] is False
    task = said(await operator.post(f"{ROOT}/{id}/trigger", json={}))["task"]
    await decide(shop)
    whole = said(await operator.get(f"{ROOT}/{id}", params={"n": 3, "limit": 10}))
    assert [(e["why"], e["task"], e["state"]) for e in whole["ledger"]] == [("triggered", task, "PENDING")]
    assert [p["local"][11:16] for p in whole["preview"]] == ["03:00"] * 3
    assert said(await operator.delete(f"{ROOT}/{id}")) == {"deleted": 1}
    assert said(await operator.get(f"{ROOT}/{id}"), 404)["reason"] == "NOT_FOUND"


async def test_a_backfill_from_and_to(shop: Shop, operator: httpx.AsyncClient, id: str) -> None:
    await operator.put(f"{ROOT}/{id}", json={"handler": "works", "cron": "0 0 * * *"})
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T23:00:00Z", "order": "at_once"}
    wanted = [f"{id}@2026-01-0{k}T00:00:00Z" for k in (1, 2)]
    assert said(await operator.post(f"{ROOT}/{id}/backfill", json=span)) == {"tasks": wanted, "ran": 0}
    assert said(await operator.post(f"{ROOT}/{id}/backfill", json=span)) == {"tasks": [], "ran": 2}
    await decide(shop)
    assert len(await queue(shop).get_many(wanted)) == 2
    await operator.delete(f"{ROOT}/{id}")


async def test_next_runs_of_what_is_not_written(operator: httpx.AsyncClient) -> None:
    asked = {"cron": "30 2 * * *", "zone": "America/New_York", "gap": "skip", "from": "2026-03-07T12:00:00Z", "n": 2}
    found = said(await operator.post(f"{ROOT}/preview", json=asked))["preview"]
    assert [(p["at"], p["why"]) for p in found] == [
        ("2026-03-08T07:30:00Z", "skipped_gap"), ("2026-03-09T06:30:00Z", ""),
    ]  # fmt: skip


async def test_pages(operator: httpx.AsyncClient) -> None:
    for k in range(3):
        said(await operator.put(f"{ROOT}/page-{k}", json={"handler": "works", "every_s": 60}))
    first = said(await operator.get(ROOT, params={"limit": 2, "after": "page"}))
    assert ([s["id"] for s in first["schedules"]], first["next"]) == (["page-0", "page-1"], "page-1")
    for k in range(3):
        await operator.delete(f"{ROOT}/page-{k}")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("PUT", "x", {"handler": "works", "cron": "0 25 * * *"}, 400, "Bad hour"),
        ("PUT", "x", {"handler": "works", "cron": "0 2 * * *", "id": "y"}, 400, "as in the path"),
        ("PUT", "x", {"handler": "nobody", "every_s": 5}, 404, "Known: fails, works"),
        ("PUT", "x", {"handler": "works", "every_s": 5, "argument": {"n": "many"}}, 400, "valid integer"),
        ("PUT", "x", {"handler": "works", "every_s": 5, "tenant": "Not One"}, 400, "[a-z0-9]"),
        ("PUT", "x", {"every_s": 5}, 400, "handler"),
        ("POST", "nothing/trigger", {}, 404, "schedule 'nothing' is not there"),
        ("POST", "nothing/pause", {"why": "x"}, 400, "note"),
        ("POST", "nothing/backfill", {"from": "yesterday", "to": 1}, 400, "ISO 8601"),
        ("POST", "preview", {"cron": "* * * * *", "n": 1000}, 400, "1..100"),
    ],
)
async def test_what_is_refused(
    operator: httpx.AsyncClient, method: str, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    assert says in said(await operator.request(method, f"{ROOT}/{path}", json=body), status)["message"]


async def test_a_tenants_key_opens_none_of_this(shop: Shop) -> None:
    for method, path, body in (
        ("GET", "", None), ("GET", "/x", None), ("PUT", "/x", {}), ("DELETE", "/x", None), ("POST", "/preview", {}),
        ("POST", "/x/pause", {}), ("POST", "/x/resume", {}), ("POST", "/x/trigger", {}), ("POST", "/x/backfill", {}),
    ):  # fmt: skip
        answer = await shop.http.request(method, ROOT + path, json=body)
        assert (answer.status_code, answer.json()["reason"]) == (403, "FORBIDDEN"), path
