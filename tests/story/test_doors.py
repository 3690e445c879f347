"""Whose data it is, and what a writer is told when it cannot be kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ray_app.catalog.scenario import Pin
from ray_app.events.sqlite import SqliteLog
from ray_app.serving.http import build
from tests.story.conftest import House
from tests.story.shop import PATIENT, Shop, within

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_tenants_see_nothing_of_each_other(open_shop: House) -> None:
    ours, theirs = await open_shop(), await open_shop()
    await ours.write([{"item_id": "secret", "title": "ours alone", "category": "tea"}])
    await ours.behave(*[ours.event("same name", "tea-1", "purchase") for _ in range(5)])
    await ours.set_scenario(replace(PATIENT["home"], pins=(Pin("secret", 0),)))

    async def known_to_us() -> bool:
        answer = await ours.recommend("same name")
        return answer.ids[0] == "secret" and "tea-1" not in answer.ids

    await within(5.0, known_to_us)
    assert (await theirs.http.get("/api/v1/items/secret")).status_code == 404
    listed = (await theirs.http.get("/api/v1/items", params={"limit": 1000})).json()["items"]
    assert len(listed) == 60
    answer = await theirs.recommend("same name", n=100)
    assert len(answer.ids) == 60
    assert "secret" not in answer.ids
    assert (await theirs.recommend("same name", n=100, scenario="buy_again")).body["items"][0]["channels"] == [
        "fallback"
    ]
    assert "secret" not in (await theirs.recommend(scenario="related", context_item_id="secret", n=100)).ids
    scenarios = (await theirs.http.get("/api/v1/scenarios")).json()["scenarios"]
    assert all(s["pins"] == [] for s in scenarios)
    assert not any([k async for k in theirs.world.redis.scan_iter(f"lemo:*:{theirs.tenant}:u:*")])


async def test_a_door_without_a_key_or_with_a_wrong_one_stays_shut(shop: Shop) -> None:
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "lemo_wrong"}, {"Authorization": "Bearer lemo_wrong"}):
        client = httpx.AsyncClient(transport=shop.http._transport, base_url="http://lemo", headers=headers)
        answer = await client.post("/api/v1/recommend", json={"scenario": "home"})
        assert (answer.status_code, answer.json()["reason"]) == (401, "UNAUTHENTICATED")


@asynccontextmanager
async def at_a_log(shop: Shop, log: SqliteLog) -> AsyncIterator[httpx.AsyncClient]:
    """The same doors before another event log."""
    app = replace(shop.app, log=log)
    transport, key = httpx.ASGITransport(build(lambda: app)), {"X-API-Key": shop.http.headers["X-API-Key"]}
    async with httpx.AsyncClient(transport=transport, base_url="http://lemo", headers=key) as client:
        yield client
    await log.close()


async def test_writes_answer_503_while_the_log_is_away(shop: Shop, tmp_path: Path) -> None:
    """A folder stands where its file should be; when it is gone, the log is back, and holds what was sent again."""
    file = tmp_path / "events.db"
    file.mkdir()
    log, topics = SqliteLog(file, 4, shop.app.clock), shop.app.settings.events
    behaviors = {"behaviors": [shop.event("ida", "tea-1")]}
    item = {"items": [{"item_id": "x", "title": "x"}]}
    async with at_a_log(shop, log) as client:
        refused = [
            await client.post("/api/v1/behaviors", json=behaviors),
            await client.post("/api/v1/items", json=item),
            await client.delete("/api/v1/items/tea-1"),
        ]
        for answer in refused:
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["reason"] == "UNAVAILABLE"
            assert "accepted" not in answer.json()
        recommended = await client.post("/api/v1/recommend", json={"scenario": "home", "user_id": "ida"})
        assert len(recommended.json()["items"]) == 10  # reading goes on
        file.rmdir()
        again = await client.post("/api/v1/behaviors", json=behaviors)
        assert (again.status_code, again.json()["accepted"]) == (200, 1)
        assert sum([await log.end(topics.behavior_topic, p) for p in range(4)]) == 1
        assert sum([await log.end(topics.item_topic, p) for p in range(4)]) == 0
