"""The handlers, as tasks of a real queue, on a real web server and real stores; results in their old shapes."""

from __future__ import annotations

from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import orjson
import pytest

from ray_app.access.keys import Keys
from ray_app.content import retention, source
from ray_app.content.document import Kept, Status, document_id, normal_url
from ray_app.content.source import Sources
from ray_app.tasks.task import State, Task
from ray_app.wiring.handlers import HANDLERS as wiring_handlers
from ray_app.wiring.stores import World
from tests.tasks_world import TasksWorld
from tests.unit.content.pages import GARDEN, GERMAN, TEA, article, rss, sitemap
from tests.web import RSS, Answer, Web, moved

pytestmark = pytest.mark.long
T = "shop"
OLD = "atlas.scheduler.celery_tasks."


async def done(tasks: TasksWorld, name: str, argument: dict[str, Any] | None = None, tenant: str = T) -> Task:
    """Submitted, and worked off with all that it led to."""
    id = await tasks.submit(name, argument, tenant=tenant)
    await tasks.work_off()
    return await tasks.queue.get(id)


async def items(world: World) -> dict[str, dict[str, Any] | None]:
    """By id, what the log says last of each item; None: that it is gone."""
    found: dict[str, dict[str, Any] | None] = {}
    topic = world.settings.events.item_topic
    for p in range(await world.log.partitions(topic)):
        for entry in await world.log.read(topic, p, 0, 1000):
            said = orjson.loads(entry.body)
            found[said["item"]["id"] if "item" in said else said["id"]] = said.get("item")
    return found


async def put(world: World, id: str, web: Web, path: str, kind: str = "rss", **fields: Any) -> None:
    made = source.parse(id, {"kind": kind, "url": web.url(path), **fields})
    await Sources(world.documents, world.clock, T).put(made)


def id_of(web: Web, path: str) -> str:
    return document_id(normal_url(web.url(path)))


def publish(web: Web) -> None:
    """Three articles, one of them a copy with another ending, and one that is gone."""
    web.pages |= {
        "/tea": Answer(article("Tea warehouse", TEA).encode()),
        "/garden": Answer(article("Early beans", GARDEN).encode()),
        "/copy": Answer(article("Tea warehouse again", [*TEA, "We read it in the Gazette."]).encode()),
    }
    named = (("Tea warehouse", "tea"), ("Early beans", "garden"), ("Tea warehouse again", "copy"), ("Gone", "gone"))
    web.pages["/feed"] = Answer(rss([(title, f"/{path}", "") for title, path in named]), RSS)


@pytest.mark.parametrize("name", ["fetch_url", OLD + "fetch_url"])
async def test_fetch_url_keeps_its_old_shape(web: Web, tasks: TasksWorld, world: World, name: str) -> None:
    publish(web)
    task = await done(tasks, name, {"url": web.url("/tea")})
    length = len(article("Tea warehouse", TEA).encode())
    assert task.result == {"url": web.url("/tea"), "status_code": 200, "content_length": length, "success": True}
    found = (await items(world))[id_of(web, "/tea")]
    assert found is not None
    assert (found["type"], found["title"], found["tenant"]) == ("news", "Tea warehouse", T)
    assert TEA[2] in found["text"]


@pytest.mark.parametrize(("name", "positional", "queue"), [
    ("fetch_url", ("url",), "default"), ("process_document", ("document_id",), "processing"),
    ("collect_from_source", ("source_id",), "default"), ("collect_all_sources", (), "default"),
    ("batch_process", ("document_ids",), "bulk"), ("deduplicate_documents", ("since",), "default"),
    ("rebuild_index", (), "default"), ("sync_pipeline", ("source_ids",), "default"),
])  # fmt: skip
def test_old_names_places_and_queues_are_known(name: str, positional: tuple[str, ...], queue: str) -> None:
    handler = next(h for h in wiring_handlers if h.name == name)
    assert (handler.positional, handler.queue, handler.aliases) == (positional, queue, (OLD + name,))


async def test_a_page_that_is_not_there_is_no_success_and_says_why(web: Web, tasks: TasksWorld) -> None:
    web.pages["/away"] = Answer(status=500)
    task = await done(tasks, "fetch_url", {"url": web.url("/none")})
    assert task.result == {
        "url": web.url("/none"), "status_code": 404, "content_length": 0, "success": False,
        "reason": f"{web.url('/none')} answered 404",
    }  # fmt: skip
    assert task.attempt == 1  # another try would end alike
    away = await done(tasks, "fetch_url", {"url": web.url("/away")})
    assert (away.state, away.attempt, away.result["success"]) == (State.SUCCESS, 2, False)
    refused = await done(tasks, "fetch_url", {"url": "http://169.254.169.254/"})
    assert (refused.result["success"], refused.result["status_code"], refused.attempt) == (False, 0, 1)


async def test_a_page_that_comes_at_the_second_try_is_a_success(web: Web, tasks: TasksWorld) -> None:
    tries = iter([Answer(status=503), Answer(article("Tea", TEA).encode())])
    web.pages["/tea"] = lambda to: next(tries)
    task = await done(tasks, "fetch_url", {"url": web.url("/tea")})
    assert (task.attempt, task.result["success"]) == (2, True)


async def test_a_feed_becomes_items_and_copies_do_not(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    await put(world, "gazette", web, "/feed", category="town")
    task = await done(tasks, "collect_from_source", {"source_id": "gazette"})
    assert task.result == {"source_id": "gazette", "fetched": 3, "new": 3, "failed": 1}
    kept = await Kept(world.documents, world.clock, T).get_many([id_of(web, p) for p in ("/tea", "/garden", "/copy")])
    tea, garden, copy = (kept[id_of(web, p)] for p in ("/tea", "/garden", "/copy"))
    # The newest came first, and of two copies the one that came first is the original.
    assert {tea.status, copy.status} == {Status.INDEXED, Status.DUPLICATE}
    assert garden.status is Status.INDEXED
    found = {i: one for i, one in (await items(world)).items() if one}
    assert len(found) == 2
    assert {one["category"] for one in found.values()} == {"town"}
    assert found[garden.id]["published_at"] == 1773451800000  # of the feed, to the minute
    assert found[garden.id]["attributes"]["language"] == "en"
    assert world.blobs.names(f"{T}/content") == []  # pages go when they are processed


async def test_a_second_collection_fetches_only_what_is_new(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    await put(world, "gazette", web, "/feed")
    await done(tasks, "collect_from_source", {"source_id": "gazette"})
    web.asked.clear()
    task = await done(tasks, "collect_from_source", {"source_id": "gazette"})
    assert task.result == {"source_id": "gazette", "fetched": 0, "new": 0, "failed": 0}
    assert web.paths() == ["/feed"]  # what is gone is not asked for again either


async def test_a_source_that_did_not_change_is_not_read_again(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    feed = rss([("Tea warehouse", "/tea", "")])

    def answer(to: BaseHTTPRequestHandler) -> Answer:
        if to.headers["If-None-Match"] == '"7"':
            return Answer(status=304)
        return Answer(feed, RSS, headers={"ETag": '"7"'})

    web.pages["/feed"] = answer
    await put(world, "gazette", web, "/feed")
    await done(tasks, "collect_from_source", {"source_id": "gazette"})
    assert (await Sources(world.documents, world.clock, T).state("gazette")).etag == '"7"'
    again = await done(tasks, "collect_from_source", {"source_id": "gazette"})
    assert again.result == {"source_id": "gazette", "fetched": 0, "new": 0, "failed": 0}


async def test_a_sitemap_is_followed_and_a_changed_page_fetched_again(
    web: Web, tasks: TasksWorld, world: World
) -> None:
    publish(web)
    web.pages |= {
        "/map": Answer(sitemap([("/part", "2026-03-14"), ("/broken", ""), ("/map", "")], index=True), "text/xml"),
        "/part": Answer(sitemap([("/tea", "2026-03-14"), ("/garden", "2026-03-14")]), "text/xml"),
        "/broken": Answer(b"no map", "text/xml"),
    }
    await put(world, "map", web, "/map", "sitemap")
    first = await done(tasks, "collect_from_source", {"source_id": "map"})
    assert (first.result["fetched"], first.result["new"]) == (2, 2)
    web.pages["/tea"] = Answer(article("Tea warehouse burns", GERMAN).encode())
    web.pages["/part"] = Answer(sitemap([("/tea", "2026-03-20"), ("/garden", "2026-03-14")]), "text/xml")
    second = await done(tasks, "collect_from_source", {"source_id": "map"})
    assert (second.result["fetched"], second.result["new"]) == (1, 0)
    found = (await items(world))[id_of(web, "/tea")]
    assert found is not None
    assert found["title"] == "Tea warehouse burns"
    copy = await Kept(world.documents, world.clock, T).get(id_of(web, "/tea"))
    assert (copy.status, copy.found.language) == (Status.INDEXED, "de")


async def test_links_and_json_become_items_of_their_type(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    posts = [{"link": "/v/1", "title": "Boats race", "text": " ".join(GARDEN), "clip": "https://media.test/1.mp4"}]
    web.pages |= {
        "/front": Answer(b"<a href='/about'>about</a><article><a href='/tea'>Tea</a></article>"),
        "/api": Answer(orjson.dumps({"posts": posts}), "application/json"),
    }
    await put(world, "front", web, "/front", "html", selectors={"links": "//article//a"})
    paths = {"items": "posts", "url": "link", "title": "title", "text": "text", "media": "clip"}
    await put(world, "clips", web, "/api", "json", selectors=paths, type="vlog")
    await done(tasks, "collect_from_source", {"source_id": "front"})
    clips = await done(tasks, "collect_from_source", {"source_id": "clips"})
    assert clips.result == {"source_id": "clips", "fetched": 0, "new": 1, "failed": 0}
    found = await items(world)
    vlog = found[id_of(web, "/v/1")]
    assert vlog is not None
    assert (vlog["type"], vlog["media"]) == ("vlog", ["https://media.test/1.mp4"])
    assert found[id_of(web, "/tea")]
    assert "/about" not in web.paths()


async def test_one_broken_source_hurts_no_other(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    web.pages |= {"/bad": Answer(b"no feed"), "/inside": moved("http://169.254.169.254/latest")}
    for id, path in (("bad", "/bad"), ("away", "/none"), ("inside", "/inside"), ("good", "/feed")):
        await put(world, id, web, path)
    await put(world, "off", web, "/feed", enabled=False)
    task = await done(tasks, "collect_all_sources")
    told = {s["source_id"]: s for s in task.result["sources"]}
    assert set(told) == {"bad", "away", "inside", "good"}
    assert told["good"] == {"source_id": "good", "fetched": 3, "new": 3, "failed": 1}
    assert all(told[i]["failed"] == 1 and told[i]["reason"] for i in ("bad", "away", "inside"))
    state = await Sources(world.documents, world.clock, T).state("inside")
    assert "not public" in state.error
    assert len([i for i in (await items(world)).values() if i]) == 2


async def test_a_source_by_itself_fails_with_its_reason(web: Web, tasks: TasksWorld, world: World) -> None:
    web.pages["/bad"] = Answer(b"no feed")
    await put(world, "bad", web, "/bad")
    task = await done(tasks, "collect_from_source", {"source_id": "bad"})
    assert (task.state, task.attempt) == (State.FAILURE, 1)
    assert "cannot be read as rss" in task.error
    unknown = await done(tasks, "collect_from_source", {"source_id": "none"})
    assert (unknown.state, unknown.attempt) == (State.FAILURE, 1)
    assert "Known: bad" in unknown.error


async def test_a_source_is_collected_when_it_is_due(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    await put(world, "slow", web, "/feed", every=3600)
    first = await done(tasks, "collect_all_sources")
    second = await done(tasks, "collect_all_sources")
    assert first.result["sources"][0]["fetched"] == 3
    assert second.result["sources"] == [{"source_id": "slow", "fetched": 0, "new": 0, "failed": 0}]
    assert web.paths().count("/feed") == 1


async def test_sync_is_every_step_and_counts_each(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    await put(world, "gazette", web, "/feed")
    await put(world, "bad", web, "/none")
    task = await done(tasks, OLD + "sync_pipeline")
    assert task.result == {
        "collect": {"sources": 2, "fetched": 3, "new": 3, "failed": 2}, "process": {"processed": 3, "failed": 0},
        "deduplicate": {"exact": 0, "near": 1}, "index": {"documents": 2},
    }  # fmt: skip
    one = await done(tasks, "sync_pipeline", {"source_ids": ["bad"]})
    assert one.result["collect"] == {"sources": 1, "fetched": 0, "new": 0, "failed": 1}
    unknown = await done(tasks, "sync_pipeline", {"source_ids": ["nobody"]})
    assert (unknown.state, "nobody" in unknown.error) == (State.FAILURE, True)


async def test_the_house_collects_for_every_tenant(web: Web, tasks: TasksWorld, world: World) -> None:

    publish(web)
    for tenant in (T, "other"):
        await Keys(world.documents, world.clock).create(tenant)
        made = source.parse("s", {"kind": "rss", "url": web.url("/feed")})
        await Sources(world.documents, world.clock, tenant).put(made)
    task = await done(tasks, "collect_all_sources", tenant="system")
    assert [s["new"] for s in task.result["sources"]] == [3, 3]
    assert {i["tenant"] for i in (await items(world)).values() if i} <= {T, "other"}
    alone = await done(tasks, "fetch_url", {"url": web.url("/tea")}, tenant="system")
    assert (alone.state, alone.attempt) == (State.FAILURE, 1)


async def test_a_document_and_a_batch_of_them(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    web.pages |= {"/empty": Answer(b"<html><body></body></html>"), "/picture": Answer(b"\x89PNG", "image/png")}
    web.pages["/feed"] = Answer(rss([("", f"/{p}", "") for p in ("tea", "empty", "picture")]), RSS)
    await put(world, "s", web, "/feed")
    await done(tasks, "collect_from_source", {"source_id": "s", "process": False})
    one = await done(tasks, "process_document", {"document_id": id_of(web, "/tea")})
    assert one.result == {"document_id": id_of(web, "/tea"), "item_id": id_of(web, "/tea"), "status": "indexed"}
    again = await done(tasks, "process_document", {"document_id": id_of(web, "/tea")})
    assert again.result == one.result
    ids = [id_of(web, "/empty"), id_of(web, "/picture"), "nobody"]
    batch = await done(tasks, "batch_process", {"document_ids": ids})
    assert batch.result == {"processed": 2, "failed": [id_of(web, "/picture"), "nobody"]}
    empty = await done(tasks, "process_document", {"document_id": id_of(web, "/empty")})
    assert empty.result == {"document_id": id_of(web, "/empty"), "item_id": None, "status": "empty"}


async def test_copies_are_found_again_after_redis_lost_everything(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    await put(world, "s", web, "/feed")
    await done(tasks, "sync_pipeline")
    await world.redis.flushall()
    before = await items(world)
    task = await done(tasks, "deduplicate_documents")
    assert task.result == {"exact": 0, "near": 1}
    assert await items(world) == before  # nothing came or went
    late = await done(tasks, "deduplicate_documents", {"since": "2100-01-01"})
    assert late.result == {"exact": 0, "near": 0}


async def test_what_is_old_goes_with_its_items(web: Web, tasks: TasksWorld, world: World) -> None:
    publish(web)
    await put(world, "s", web, "/feed")
    await done(tasks, "sync_pipeline")
    assert await retention.clean(world, T) == {"documents": 0, "items": 0}
    kept = Kept(world.documents, world.clock, T)
    old = await kept.get_many([id_of(web, p) for p in ("/tea", "/copy")])

    await kept.put(*(replace(d, fetched_at=1) for d in old.values()))
    assert await retention.clean(world, T) == {"documents": 2, "items": 1}
    assert await kept.get_many(list(old)) == {}
    left = [i for i, one in (await items(world)).items() if one]
    assert left == [id_of(web, "/garden")]
    fresh = await done(tasks, "fetch_url", {"url": web.url("/tea")})  # it is nobody's copy any more
    assert fresh.result["success"]
    assert (await kept.get(id_of(web, "/tea"))).status is Status.INDEXED
