"""What one collection takes, what it leaves for the next, and what it never asks for again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ray_app.clock import SystemClock
from ray_app.content import source
from ray_app.content.collect import Collected, Collector
from ray_app.content.document import Kept, Status
from ray_app.content.fetch import Fetcher
from ray_app.content.source import Source, Sources
from ray_app.wiring.stores import World
from tests.unit.content.pages import TEA, article, rss, sitemap
from tests.web import RSS, Answer, Web

T = "shop"


class Desk:
    """Collects from one source under settings of the test."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fetcher = Fetcher(world.settings.content, world.redis, "test")

    async def collect(self, made: Source, **settings: Any) -> Collected:
        content = self.world.settings.content.model_copy(update=settings)
        chosen = self.world.settings.model_copy(update={"content": content})
        return await Collector(replace(self.world, settings=chosen), T, self.fetcher).collect(made, told)

    async def state(self, made: Source) -> source.State:
        return await Sources(self.world.documents, self.world.clock, T).state(made.id)


async def told(done: int, total: int) -> None:
    assert 0 <= done < total


@pytest.fixture
async def desk(world: World) -> AsyncIterator[Desk]:
    made = Desk(world)
    async with made.fetcher:
        yield made


def feed(web: Web, *names: str, etag: str = '"1"') -> Source:
    """A source whose list names these pages, which exist."""
    web.pages |= {f"/{n}": Answer(article(n, [f"{n} {p}" for p in TEA]).encode()) for n in names}
    web.pages["/feed"] = Answer(rss([(n, f"/{n}", "") for n in names]), RSS, headers={"ETag": etag})
    return source.parse("s", {"kind": "rss", "url": web.url("/feed")})


async def test_the_next_collection_goes_on_where_one_had_enough(web: Web, desk: Desk) -> None:
    made = feed(web, *"abcde")
    first = await desk.collect(made, pages=2)
    assert (first.fetched, first.new, first.whole) == (2, 2, False)
    assert (await desk.state(made)).etag == ""  # else the rest would be "not modified"
    second = await desk.collect(made, pages=9)
    assert (second.fetched, second.whole) == (3, True)
    assert (await desk.state(made)).etag == '"1"'
    assert sorted(p for p in web.paths() if p != "/feed") == ["/a", "/b", "/c", "/d", "/e"]


class Slow(SystemClock):
    """Each look at it finds that a minute has passed."""

    minutes = 0

    def monotonic(self) -> float:
        self.minutes += 1
        return self.minutes * 60.0


async def test_many_slow_sitemaps_leave_time_for_pages(web: Web, desk: Desk) -> None:
    made = replace(feed(web, "a", "b"), kind="sitemap", url=web.url("/index"))
    web.pages["/index"] = Answer(sitemap([(f"/m{k}", "") for k in range(40)], index=True), "text/xml")
    web.pages |= {f"/m{k}": Answer(sitemap([("/a", ""), ("/b", "")]), "text/xml") for k in range(40)}
    desk.world = replace(desk.world, clock=Slow())
    found = await desk.collect(made)
    assert 1 <= sum(p.startswith("/m") for p in web.paths()) <= 3
    assert found.fetched >= 1
    assert not found.whole  # the next collection reads them again


async def test_the_newest_come_first(web: Web, desk: Desk) -> None:
    made = feed(web, *"abc")  # each a later hour than the one before
    await desk.collect(made, pages=1)
    assert web.paths() == ["/feed", "/c"]


async def test_what_is_older_than_content_is_kept_is_not_fetched(web: Web, desk: Desk) -> None:
    made = feed(web, "a")
    web.pages["/map"] = Answer(sitemap([("/a", "1999-01-01"), ("/b", "")]), "text/xml")
    found = await desk.collect(replace(made, kind="sitemap", url=web.url("/map")), keep_s=86400)
    assert web.paths() == ["/map", "/b"]
    assert (found.fetched, found.failed) == (0, 1)


async def test_a_page_that_is_gone_is_left_and_one_that_is_away_is_asked_again(
    web: Web, desk: Desk, world: World
) -> None:
    made = feed(web, *"abc")
    web.pages |= {"/a": Answer(status=410), "/b": Answer(status=500)}
    first = await desk.collect(made)
    assert (first.fetched, first.failed, first.whole) == (1, 2, False)
    statuses = {d.url[-1]: d.status async for page in Kept(world.documents, world.clock, T).pages() for d in page}
    assert statuses == {"a": Status.FAILED, "b": Status.FAILED, "c": Status.FETCHED}
    web.asked.clear()
    feed(web, "b")
    web.pages["/feed"] = Answer(rss([(n, f"/{n}", "") for n in "abc"]), RSS)
    second = await desk.collect(made)
    assert web.paths() == ["/feed", "/b"]
    assert (second.fetched, second.new, second.failed, second.whole) == (1, 1, 0, True)


async def test_a_host_that_wants_to_be_left_alone_is(web: Web, desk: Desk, world: World) -> None:
    made = feed(web, *"abc")
    web.pages["/c"] = Answer(status=429, headers={"Retry-After": "600"})
    found = await desk.collect(made)
    assert (found.fetched, found.failed, found.whole) == (0, 1, False)
    assert web.paths() == ["/feed", "/c"]
    assert [d async for page in Kept(world.documents, world.clock, T).pages() for d in page] == []


async def test_a_page_that_is_fetched_by_itself_keeps_what_its_source_said(web: Web, desk: Desk, world: World) -> None:
    made = feed(web, "a")
    await desk.collect(made)
    _, again = await Collector(world, T, desk.fetcher).page(web.url("/a"), None)
    assert (again.said.title, again.source_id) == ("a", "s")


async def test_another_url_of_a_source_is_asked_without_the_old_ones_etag(web: Web, desk: Desk) -> None:
    made = feed(web, "a")
    await desk.collect(made)
    web.pages["/other"] = web.pages["/feed"]
    await desk.collect(replace(made, url=web.url("/other")))
    assert "If-None-Match" not in web.asked[-1][1]


async def test_urls_that_differ_in_what_tracks_are_one_document(web: Web, desk: Desk) -> None:
    made = feed(web, "a")
    web.pages["/feed"] = Answer(rss([("a", f"/a?utm_source={k}", "") for k in range(3)]), RSS)
    assert (await desk.collect(made)).new == 1
    assert web.paths() == ["/feed", "/a"]
