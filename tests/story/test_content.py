"""News from a site's feed to a visitor's answer: sources by HTTP, real tasks, the items flow, recommend and search."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from ray_app.config import Content, Settings
from ray_app.content.tasks import HANDLERS
from ray_app.stores.embedded import addresses
from ray_app.tasks.task import State, Task
from tests.story.shop import Shop, within
from tests.tasks_world import TasksWorld
from tests.unit.content.pages import GARDEN, GERMAN, TEA, article, rss
from tests.web import RSS, Answer, Web, moved

pytestmark = pytest.mark.asyncio(loop_scope="session")
TITLES = {
    "tea": "Tea warehouse to become a market", "garden": "Beans are planted earlier", "copy": "Copied",
    "mill": "Die alte Mühle öffnet", "inside": "Too good to be true",
}  # fmt: skip
NEWS = [{"field": "type", "op": "eq", "value": "news"}]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    served = Web()
    served.pages |= {
        "/tea": Answer(article("Tea warehouse to become a market", TEA).encode()),
        "/garden": Answer(article("Beans are planted earlier", GARDEN).encode()),
        "/mill": Answer(article("Die alte Mühle öffnet", GERMAN, lang="de").encode()),
        "/copy": Answer(article("Tea warehouse: what others write", [*TEA, "We read it elsewhere."]).encode()),
        "/inside": moved("http://169.254.169.254/latest/meta-data/"),
    }
    served.pages["/feed"] = Answer(rss([(t, f"/{path}", "") for path, t in TITLES.items()]), RSS)
    yield served
    served.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def tasks(settings: Settings) -> AsyncIterator[TasksWorld]:
    """On the stores of the house, with the test's server let in."""
    at = addresses(settings.data)
    stores = settings.stores.model_copy(update={"redis_url": at.redis_url, "clickhouse_url": at.clickhouse_url})
    content = Content(allow_hosts=("127.0.0.1",), delay_s=0.0, keep_s=20 * 366 * 86400)
    made = TasksWorld(settings.model_copy(update={"content": content, "stores": stores}), HANDLERS)
    yield made
    await made.close()


async def done(tasks: TasksWorld, shop: Shop, name: str) -> Task:
    id = await tasks.submit(name, tenant=shop.tenant)
    await tasks.work_off()
    return await tasks.queue.get(id)


@pytest.mark.long
async def test_what_a_site_publishes_is_recommended_and_found(new_shop: Shop, web: Web, tasks: TasksWorld) -> None:
    source = {"kind": "rss", "url": web.url("/feed"), "category": "town"}
    assert (await new_shop.http.put("/api/v1/sources/gazette", json=source)).json()["type"] == "news"
    synced = await done(tasks, new_shop, "sync_pipeline")
    assert synced.state is State.SUCCESS, synced.error
    assert synced.result == {
        "collect": {"sources": 1, "fetched": 4, "new": 4, "failed": 1}, "process": {"processed": 4, "failed": 0},
        "deduplicate": {"exact": 0, "near": 1}, "index": {"documents": 3},
    }  # fmt: skip

    async def recommended() -> bool:
        return len((await new_shop.recommend("ann", n=10, filters=NEWS)).ids) == 3

    await within(10, recommended)
    documents = (await new_shop.http.get("/api/v1/documents", params={"status": "indexed"})).json()["documents"]
    assert set((await new_shop.recommend("ann", n=10, filters=NEWS)).ids) == {d["document_id"] for d in documents}
    assert {d["language"] for d in documents} == {"en", "de"}
    tea = next(d for d in documents if d["title"] in ("Copied", TITLES["tea"]))
    item = (await new_shop.http.get(f"/api/v1/items/{tea['item_id']}")).json()
    assert (item["category"], item["attributes"]["source"]) == ("town", "gazette")
    assert TEA[3] in item["text"]

    assert (await new_shop.job("embed")).version

    async def found() -> bool:
        asked = {"q": "a market hall in the harbour quarter with a museum", "n": 2}
        answer = await new_shop.http.get("/api/v1/documents/search", params=asked)
        return answer.status_code == 200 and [d["document_id"] for d in answer.json()["documents"]][:1] == [
            tea["document_id"]
        ]

    await within(10, found)
    await new_shop.behave(new_shop.event("bob", tea["item_id"]))
    await within(10, lambda: _is_seen(new_shop, tea["item_id"]))


async def _is_seen(shop: Shop, item: str) -> bool:
    """A click on a piece of news counts like any other."""
    answer = await shop.recommend("bob", n=2, filters=NEWS)
    return len(answer.ids) == 2 and item not in answer.ids


async def test_sources_and_documents_through_the_door(new_shop: Shop, web: Web, tasks: TasksWorld) -> None:
    http, source = new_shop.http, {"kind": "rss", "url": web.url("/feed")}
    assert (await http.put("/api/v1/sources/Bad", json=source)).json()["metadata"]["field"] == "source"
    refused = await http.put("/api/v1/sources/s", json={**source, "url": "file:///etc/passwd"})
    assert (refused.status_code, refused.json()["metadata"]["field"]) == (400, "url")
    assert (await http.put("/api/v1/sources/s", json=source)).status_code == 200
    shown = (await http.get("/api/v1/sources/s")).json()
    assert shown["state"]["collected_at"] == 0
    assert (await http.put("/api/v1/sources/s", json={**shown, "enabled": False})).json()["enabled"] is False
    assert [s["id"] for s in (await http.get("/api/v1/sources")).json()["sources"]] == ["s"]
    assert (await done(tasks, new_shop, "collect_all_sources")).result == {"sources": []}
    assert (await http.get("/api/v1/documents/search", params={"q": "tea"})).status_code == 503
    assert (await http.get("/api/v1/documents/search")).json()["metadata"]["field"] == "q"
    assert (await http.get("/api/v1/documents", params={"status": "lost"})).json()["metadata"]["field"] == "status"
    assert (await http.delete("/api/v1/sources/s")).json() == {"deleted": "s"}
    for gone in ("sources/s", "documents/d"):
        assert (await http.get(f"/api/v1/{gone}")).status_code == 404


async def test_documents_come_page_by_page(new_shop: Shop, web: Web, tasks: TasksWorld) -> None:
    await new_shop.http.put("/api/v1/sources/gazette", json={"kind": "rss", "url": web.url("/feed")})
    await done(tasks, new_shop, "sync_pipeline")
    ids, after = list[str](), ""
    while True:
        page = (await new_shop.http.get("/api/v1/documents", params={"limit": 2, "after": after})).json()
        assert all("text" not in d for d in page["documents"])
        ids += [d["document_id"] for d in page["documents"]]
        after = page.get("next", "")
        if not after:
            break
    assert len(ids) == len(set(ids)) == 5
    one = (await new_shop.http.get(f"/api/v1/documents/{ids[0]}")).json()
    assert one["document_id"] == ids[0]
    state = (await new_shop.http.get("/api/v1/sources/gazette")).json()["state"]
    assert state["error"] == ""
    failed = (await new_shop.http.get("/api/v1/documents", params={"status": "failed"})).json()["documents"]
    assert ["not public" in d["error"] for d in failed] == [True]
