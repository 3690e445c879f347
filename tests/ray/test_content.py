"""The content pipeline on a real cluster: its tasks run in Workers, and the index is made by a Ray Job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ray_app.config import Settings
from ray_app.stores.base import LIVE
from ray_app.tasks.task import ENDED, State, Submission, Task
from ray_app.wiring import open_world
from ray_app.wiring.stores import World
from tests.ray.conftest import Shop, until
from tests.unit.content.pages import GARDEN, TEA, article, sitemap
from tests.web import Answer, Web

NEWS = [{"field": "type", "op": "eq", "value": "news"}]


@pytest.fixture
def web() -> Iterator[Web]:
    now = datetime.fromtimestamp(time.time(), UTC).isoformat()
    served = Web()
    served.pages |= {
        "/map": Answer(sitemap([("/tea", now), ("/garden", now)]), "text/xml"),
        "/tea": Answer(article("Tea warehouse", TEA, published=now).encode()),
        "/garden": Answer(article("Early beans", GARDEN, published=now).encode()),
    }
    yield served
    served.stop()


async def done(world: World, name: str, argument: dict[str, object]) -> tuple[Task, int]:
    """The ended task, and how often the tenant's index was looked at meanwhile, and was there."""
    (id,) = await world.queue.submit(Submission(name, argument, tenant="demo"))
    began, looks, had = time.monotonic(), 0, False
    while (task := await world.queue.wait(id, 0.05)).state not in ENDED:
        assert time.monotonic() - began < 180, task
        rows, _ = await world.vectors.load("demo", LIVE)
        assert len(rows) or not had, "the index was away for a moment"
        had = had or len(rows) > 0
        looks += had
        await asyncio.sleep(0)
    return task, looks


async def test_a_site_becomes_news_and_the_index_is_swapped_without_a_gap(shop: Shop, web: Web) -> None:
    answer = shop.http.put("/api/v1/sources/gazette", json={"kind": "sitemap", "url": web.url("/map")})
    assert answer.status_code == 200, answer.text
    async with open_world(Settings(data=shop.data)) as world:
        synced, _ = await done(world, "sync_pipeline", {"rebuild": True})
        assert synced.state is State.SUCCESS, synced.error
        assert synced.result["collect"] == {"sources": 1, "fetched": 2, "new": 2, "failed": 0}
        assert synced.result["index"]["documents"] == 2
        first = synced.result["index"]["index"]
        more = [{"item_id": f"late-{k}", "title": f"LATE THING {k}"} for k in range(20)]
        assert shop.post("/api/v1/items", {"items": more}, wait="true").status_code == 200
        rebuilt, looks = await done(world, "rebuild_index", {})
        assert rebuilt.state is State.SUCCESS, rebuilt.error
        assert rebuilt.result["documents"] == 2
        assert rebuilt.result["index"] != first  # of other texts, so another space
        assert looks > 5

    def shown() -> bool:
        asked = {"scenario": "home", "user_id": "reader", "n": 5, "filters": NEWS}
        titles = shop.post("/api/v1/recommend", asked).json()["items"]
        return len(titles) == 2

    until(shown, 30)

    def found() -> bool:
        asked = {"q": "the old warehouse at the harbour", "n": 1}
        answer = shop.http.get("/api/v1/documents/search", params=asked)
        return answer.status_code == 200 and answer.json()["documents"][0]["title"] == "Tea warehouse"

    until(found, 30)
