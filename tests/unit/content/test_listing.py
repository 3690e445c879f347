"""Feeds good and broken, sitemaps, pages of links and JSON answers."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from ray_app.content import source as sources
from ray_app.content.failed import FetchFailed
from ray_app.content.fetch import Page
from ray_app.content.listing import Listing, read
from ray_app.errors import InvalidField
from tests.unit.content.pages import rss, sitemap

URL = "http://news.test/list"
ATOM = b"""<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>G</title>
<entry><title type="html">Boats &amp;amp; nets</title><link href="/boats"/><id>1</id>
<updated>2026-03-15T10:00:00Z</updated><published>2026-03-14T09:30:00Z</published><author><name>Ruth</name></author>
<category term="sea"/><content type="html">&lt;p&gt;All of it.&lt;/p&gt;</content></entry></feed>"""
LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">
<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;">
<!ENTITY s SYSTEM "file:///etc/hostname">]>"""


def listed(kind: str, body: bytes, charset: str = "", type: str = "application/xml", **selectors: str) -> Listing:
    source = sources.parse("s", {"kind": kind, "url": URL, "selectors": selectors})
    return read(source, Page(URL, 200, body, type, charset), 1_000_000)


def test_rss() -> None:
    body = rss([("Market opens", "http://news.test/a", "<p>On <b>Tuesday</b></p>"), ("Boats", "/b", "")])
    first, second = listed("rss", body).entries
    assert (first.url, second.url) == ("http://news.test/a", "http://news.test/b")
    assert (first.said.title, first.said.text, first.said.tags) == ("Market opens", "On Tuesday", ("harbour",))
    assert first.said.published_at == 1773448200000


def test_atom() -> None:
    (entry,) = listed("rss", ATOM).entries
    assert (entry.url, entry.said.title, entry.said.text) == ("http://news.test/boats", "Boats & nets", "All of it.")
    assert (entry.said.author, entry.said.published_at) == ("Ruth", 1773480600000)
    assert entry.updated_at > entry.said.published_at


def test_a_feed_that_breaks_off_gives_what_came_before() -> None:
    body = rss([(f"t{k}", f"/{k}", "d") for k in range(9)])
    assert 4 <= len(listed("rss", body[: len(body) * 2 // 3]).entries) <= 8


def test_a_feed_in_another_encoding_than_it_says() -> None:
    body = rss([("Über die Brücke", "/a", "")]).decode().encode("cp1252")
    assert listed("rss", body, charset="utf-8").entries[0].said.title == "Über die Brücke"


@pytest.mark.parametrize("kind", ["rss", "sitemap", "json"])
@pytest.mark.parametrize("body", [b"", b"<html><p>moved</p></html>", b"\x00" * 100, b"{]", b"<rss", LAUGHS])
def test_what_is_no_list_is_refused_with_the_reason(kind: str, body: bytes) -> None:
    selectors = {"url": "u"} if kind == "json" else {}
    with pytest.raises(FetchFailed, match=f"cannot be read as {kind}") as failed:
        listed(kind, body, **selectors)
    assert not failed.value.again


def test_entities_that_grow_or_read_files_do_neither() -> None:
    body = (
        LAUGHS
        + b"<urlset><url><loc>http://news.test/&f;</loc></url><url><loc>http://news.test/&s;</loc></url></urlset>"
    )
    assert all(len(e.url) < 200 for e in listed("sitemap", body).entries)
    feed = (
        LAUGHS
        + b"<rss version='2.0'><channel><item><title>&f;</title><link>http://news.test/a</link></item></channel></rss>"
    )
    try:
        found = listed("rss", feed).entries
    except FetchFailed:
        return
    assert all(len(e.said.title) <= 1000 for e in found)


def test_a_sitemap_an_index_of_them_and_a_packed_one() -> None:
    body = sitemap([("http://news.test/a", "2026-03-14"), ("/b", "soon")])
    for found in (listed("sitemap", body), listed("sitemap", gzip.compress(body))):
        assert [(e.url, e.updated_at) for e in found.entries] == [
            ("http://news.test/a", 1773446400000), ("http://news.test/b", 0),
        ]  # fmt: skip
    assert listed("sitemap", sitemap([("/maps/1.xml.gz", "")], index=True)).maps == ("http://news.test/maps/1.xml.gz",)
    assert len(listed("sitemap", b"http://news.test/a\nhttp://news.test/b\n").entries) == 2


def test_a_packed_sitemap_that_grows_is_refused() -> None:
    with pytest.raises(FetchFailed, match="larger"):
        listed("sitemap", gzip.compress(bytes(50_000_000)))


def test_links_of_a_page() -> None:
    page = b"<nav><a href='/home'>h</a></nav><article><a href='/a#x'>1</a><a href=' b '>2</a></article>"
    for links in ("//article//a/@href", "//article//a"):
        found = listed("html", page, type="text/html", links=links).entries
        assert [e.url for e in found] == ["http://news.test/a", "http://news.test/b"]
    assert listed("html", b"<p>no links</p>", links="//a").entries == ()


def test_json() -> None:
    body = {"data": {"posts": [
        {"link": "/a", "head": {"title": "A"}, "body": "<p>text</p>", "at": 1773480600, "labels": ["x", "y"]},
        {"link": None}, "nonsense", {"link": "/b", "at": "2026-03-14T09:30:00Z", "labels": "z"},
    ]}}  # fmt: skip
    paths = {"items": "data.posts", "url": "link", "title": "head.title", "text": "body", "published_at": "at",
             "tags": "labels"}  # fmt: skip
    a, b = listed("json", orjson.dumps(body), **paths).entries
    assert (a.url, a.said.title, a.said.text, a.said.tags) == ("http://news.test/a", "A", "text", ("x", "y"))
    assert a.said.published_at == b.said.published_at == 1773480600000
    with pytest.raises(FetchFailed, match="no list"):
        listed("json", orjson.dumps(body), items="data", url="link")


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"kind": "soap"}, "kind"), ({"url": "file:///etc/x"}, "url"), ({"url": 7}, "url"), ({"type": "item"}, "type"),
     ({"every": -1}, "every"), ({"enabled": 1}, "enabled"), ({"colour": 1}, "colour"), ({"kind": "html"}, "selectors"),
     ({"kind": "html", "selectors": {"links": "//["}}, "selectors.links"),
     ({"selectors": {"links": "//a"}}, "selectors"),
     ({"kind": "json"}, "selectors"), ({"kind": "json", "selectors": {"url": 1}}, "selectors")],
)  # fmt: skip
def test_a_source_with_a_wrong_field_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        sources.parse("s", {"kind": "rss", "url": URL, **fields})
    assert refused.value.field == named


BAD = "http://[bad/"


@pytest.mark.parametrize(
    ("kind", "body", "selectors"),
    [("html", f"<a href='{BAD}'>1</a><a href='/b'>2</a>", {"links": "//a/@href"}),
     ("json", f'[{{"u": "{BAD}"}}, {{"u": "/b", "m": ["{BAD}"]}}]', {"url": "u", "media": "m"}),
     ("sitemap", f"<urlset><url><loc>{BAD}</loc></url><url><loc>/b</loc></url></urlset>", {}),
     ("sitemap", f"http://news.test/b\n{BAD}", {}),
     ("rss", f"<rss version='2.0'><channel><item><title>b</title><link>/b</link><enclosure url='{BAD}'/></item>"
             f"<item><title>bad</title><link>{BAD}</link></item></channel></rss>", {})],
)  # fmt: skip
def test_a_link_that_is_none_does_not_hurt_the_others(kind: str, body: str, selectors: dict[str, str]) -> None:
    (entry,) = listed(kind, body.encode(), "", "", **selectors).entries
    assert (entry.url, entry.said.media) == ("http://news.test/b", ())


def test_an_index_with_a_link_that_is_none_names_the_others() -> None:
    body = f"<sitemapindex><sitemap><loc>{BAD}</loc></sitemap><sitemap><loc>/m</loc></sitemap></sitemapindex>"
    assert listed("sitemap", body.encode()).maps == ("http://news.test/m",)


@pytest.mark.parametrize("xpath", ["count(//a)", "true()", "$x", "no-such()"])
def test_an_xpath_that_finds_no_links_says_so(xpath: str) -> None:
    with pytest.raises(FetchFailed, match="cannot be read as html"):
        listed("html", b"<a href='/b'>2</a>", links=xpath)


def test_an_xpath_of_one_text_is_one_link() -> None:
    (entry,) = listed("html", b"<a href='/b'>2</a><a href='/c'>3</a>", links="string(//a/@href)").entries
    assert entry.url == "http://news.test/b"


def test_an_xpath_with_control_characters_is_refused() -> None:
    with pytest.raises(InvalidField, match="XPath"):
        sources.parse("s", {"kind": "html", "url": URL, "selectors": {"links": "//a\x00"}})
