"""What a source lists: entries of RSS and Atom feeds, sitemaps, pages of links, and JSON answers."""

from __future__ import annotations

import calendar
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ray_app.content.document import Found, joined
from ray_app.content.extract import MOST_TEXT, MOST_TITLE, decoded, moment, plain, time_of, words
from ray_app.content.failed import FetchFailed
from ray_app.content.fetch import Page
from ray_app.content.source import Source
from ray_app.content.unpack import GZIP, gunzip

MOST_ENTRIES = 50_000  # what a sitemap may have


@dataclass(frozen=True, slots=True)
class Entry:
    """A page that a source names; `updated_at`: when it changed last, ms, 0 where it is not said."""

    url: str
    said: Found = field(default_factory=Found)
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """`maps`: further sitemaps that this one names."""

    entries: tuple[Entry, ...]
    maps: tuple[str, ...] = ()


def read(source: Source, page: Page, limit: int) -> Listing:
    """Raises FetchFailed for a page that is not what the source's kind says. `limit`: bytes of what is unpacked."""
    body = gunzip(page.body, limit) if page.body.startswith(GZIP) else page.body
    try:
        found = READERS[source.kind](source, page, body)
    except (ValueError, RecursionError) as e:
        raise _none(source, page, str(e)[:200]) from None
    once = {e.url: e for e in found.entries if e.url.startswith(("http://", "https://"))}
    return Listing(tuple(once.values())[:MOST_ENTRIES], found.maps)


def _none(source: Source, page: Page, why: str) -> FetchFailed:
    return FetchFailed(f"{page.url} of source {source.id!r} cannot be read as {source.kind}: {why}")


def _feed(source: Source, page: Page, body: bytes) -> Listing:
    """A broken one gives the entries before the fault."""
    import feedparser

    headers = {"content-type": f"{page.type}; charset={page.charset}" if page.charset else page.type}
    parsed = feedparser.parse(io.BytesIO(body), response_headers={**headers, "content-location": page.url})
    if not parsed.entries and (parsed.bozo or not parsed.get("version")):
        raise ValueError(f"no feed: {parsed.get('bozo_exception', 'unknown format')}")
    return Listing(tuple(_of_feed(e, page.url) for e in parsed.entries if e.get("link")))


def _of_feed(e: Any, url: str) -> Entry:
    whole = max((c.get("value", "") for c in e.get("content", ())), key=len, default="")
    links = [
        m.get("url") or m.get("href") for n in ("media_content", "media_thumbnail", "enclosures") for m in e.get(n, ())
    ]
    said = Found(
        title=plain(e.get("title", ""))[:MOST_TITLE],
        text=plain(whole or e.get("summary", ""))[:MOST_TEXT],
        published_at=_ms(e.get("published_parsed") or e.get("updated_parsed")),
        author=plain(e.get("author", ""))[:200],
        tags=words([t.get("term") for t in e.get("tags", ())]),
        media=_media(url, [m for m in links if m]),
    )
    return Entry(joined(url, e.link), said, _ms(e.get("updated_parsed")))


def _media(url: str, links: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m for link in links if (m := joined(url, link))))[:20]


def _ms(parsed: Any) -> int:
    return moment(calendar.timegm(parsed) * 1000) if parsed else 0


def _sitemap(source: Source, page: Page, body: bytes) -> Listing:
    """Also an index of them, and one URL a line."""
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = [line.strip() for line in decoded(body, page.charset).splitlines()]
        if not lines or not lines[0].startswith("http"):
            raise ValueError("neither XML nor a URL a line")
        return Listing(tuple(Entry(joined(page.url, line)) for line in lines if line))
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True, huge_tree=False)
    tree = etree.fromstring(body, parser)
    if tree is None or etree.QName(tree).localname not in ("urlset", "sitemapindex"):
        raise ValueError("no urlset and no sitemapindex")
    found = [dict(_texts(one)) for one in tree if isinstance(one.tag, str)]
    if etree.QName(tree).localname == "sitemapindex":
        return Listing((), tuple(m for one in found if one.get("loc") and (m := joined(page.url, one["loc"]))))
    return Listing(tuple(_of_sitemap(one, page.url) for one in found if one.get("loc")))


def _texts(element: Any) -> Iterator[tuple[str, str]]:
    for one in element.iter():
        if isinstance(one.tag, str) and one.text and one.text.strip():
            yield one.tag.rpartition("}")[2], one.text.strip()


def _of_sitemap(one: Mapping[str, str], url: str) -> Entry:
    said = Found(title=one.get("title", "")[:MOST_TITLE], published_at=time_of(one.get("publication_date", "")))
    return Entry(joined(url, one["loc"]), said, time_of(one.get("lastmod", "")))


def _links(source: Source, page: Page, body: bytes) -> Listing:
    from lxml import etree
    from lxml import html as markup

    try:
        tree = markup.fromstring(decoded(body, page.charset).encode(), parser=markup.HTMLParser(encoding="utf-8"))
        found = tree.xpath(source.selectors["links"])
    except etree.LxmlError as e:
        raise ValueError(str(e)) from None
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list):
        raise ValueError(f"selectors.links finds {found!r}, and no links")
    links = [one if isinstance(one, str) else one.get("href") for one in found if isinstance(one, str | etree._Element)]
    return Listing(tuple(Entry(joined(page.url, link.strip()).partition("#")[0]) for link in links if link))


def _json(source: Source, page: Page, body: bytes) -> Listing:
    whole = orjson.loads(decoded(body, page.charset))
    listed = at(whole, source.selectors.get("items", ""))
    if not isinstance(listed, list):
        raise ValueError(f"selectors.items {source.selectors.get('items', '')!r} is no list in it")
    return Listing(tuple(e for one in listed if (e := _of_json(source.selectors, one, page.url))))


def _of_json(paths: Mapping[str, str], one: Any, url: str) -> Entry | None:
    got = {name: at(one, path) for name, path in paths.items() if name != "items"}
    link = got.get("url")
    if not isinstance(link, str) or not link:
        return None
    text = {n: plain(str(got[n])) for n in ("title", "text", "author") if isinstance(got.get(n), str | int | float)}
    said = Found(
        title=text.get("title", "")[:MOST_TITLE],
        text=text.get("text", "")[:MOST_TEXT],
        published_at=_moment(got.get("published_at")),
        author=text.get("author", "")[:200],
        tags=words(_many(got.get("tags"))),
        media=_media(url, [m for m in _many(got.get("media")) if isinstance(m, str)]),
    )
    return Entry(joined(url, link), said)


def at(value: Any, path: str) -> Any:
    """What stands there: names and numbers between dots; "" is the value itself. None where nothing does."""
    for part in filter(None, path.split(".")):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _moment(value: Any) -> int:
    """ms of a text, or of a number of seconds or milliseconds."""
    if isinstance(value, str):
        return time_of(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e14:
        return 0
    return moment(int(value if value > 1e11 else value * 1000))


READERS: Mapping[str, Callable[[Source, Page, bytes], Listing]] = {
    "rss": _feed, "sitemap": _sitemap, "html": _links, "json": _json,
}  # fmt: skip
