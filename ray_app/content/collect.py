"""A source is read, and the pages that it names and nobody has yet are fetched and kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_app.content.document import Document, Found, Kept, Status, document_id, folder_of, normal_url
from ray_app.content.failed import FetchFailed
from ray_app.content.fetch import Fetcher, Page, Seen
from ray_app.content.listing import Entry, Listing, read
from ray_app.content.source import Source, Sources, State
from ray_app.content.stores import Stores

BUDGET_S = 120.0  # of the pages of one collection; with that of its sitemaps below the soft limit of a task
MAPS_S = 60.0  # of sitemaps that a sitemap leads to; the next collection goes on
MOST_MAPS, DEEPEST = 50, 2  # sitemaps that a sitemap leads to
CHUNK = 500
Tell = Callable[[int, int], Awaitable[None]]


@dataclass
class Collected:
    """`fetched`: pages that came, `new`: documents that were not there before, `failed`: pages that did not come.
    `whole`: nothing is left for the next time."""

    fetched: int = 0
    new: int = 0
    failed: int = 0
    whole: bool = True


class Collector:
    """One tenant's."""

    def __init__(self, stores: Stores, tenant: str, fetcher: Fetcher) -> None:
        self._stores, self._tenant, self._fetcher = stores, tenant, fetcher
        self._kept = Kept(stores.documents, stores.clock, tenant)
        self._sources = Sources(stores.documents, stores.clock, tenant)

    async def collect(self, source: Source, tell: Tell) -> Collected:
        """Raises FetchFailed when the source itself cannot be had or read, and notes that in its state."""
        state = await self._sources.state(source.id)
        state = state if state.url == source.url else State(url=source.url)
        try:
            page = await self._fetcher.get(source.url, Seen(state.etag, state.modified))
            entries, all_read = ((), True) if page.unchanged else await self._entries(source, page)
        except FetchFailed as e:
            failed = replace(state, failed_at=self._stores.clock.now(), error=e.message[:500])
            await self._sources.tell(source.id, failed)
            raise
        done = await self._pages(source, await self._wanted(entries), tell)
        done.whole &= all_read
        seen = Seen(state.etag, state.modified) if page.unchanged else page.seen if done.whole else Seen()
        now = self._stores.clock.now()
        told = replace(state, collected_at=now, error="", etag=seen.etag, modified=seen.modified)
        await self._sources.tell(source.id, told)
        return done

    async def page(self, url: str, source: Source | None) -> tuple[Page, Document]:
        """One page by itself, fetched again where it is known. Raises FetchFailed."""
        at = normal_url(url)
        known = (await self._kept.get_many([document_id(at)])).get(document_id(at))
        page = await self._fetcher.get(url)
        return page, await self._keep(Entry(at), page, source, known)

    async def _entries(self, source: Source, page: Page) -> tuple[tuple[Entry, ...], bool]:
        """Of the page, and of the sitemaps that it names, and whether there was time for all of these; one that is
        broken does not hurt the others. Which come first is by chance, so that in the end all do."""
        ends, all_read = self._stores.clock.monotonic() + MAPS_S, True
        listing = await self._listing(source, page)
        entries, maps, seen = list(listing.entries), list(listing.maps), {page.url}
        for _ in range(DEEPEST):
            deeper: list[str] = []
            chosen = [m for m in maps if m not in seen][: MOST_MAPS - len(seen)]
            for url in random.Random(self._stores.clock.now()).sample(chosen, len(chosen)):
                if self._stores.clock.monotonic() > ends:
                    all_read = False
                    break
                seen.add(url)
                found = await self._map(source, url)
                entries += found.entries
                deeper += found.maps
            maps = deeper
        return tuple({e.url: e for e in entries}.values()), all_read

    async def _map(self, source: Source, url: str) -> Listing:
        try:
            return await self._listing(source, await self._fetcher.get(url))
        except FetchFailed:
            return Listing(())

    async def _listing(self, source: Source, page: Page) -> Listing:
        return await asyncio.to_thread(read, source, page, self._stores.settings.content.max_bytes)

    async def _wanted(self, entries: Sequence[Entry]) -> list[tuple[Entry, Document | None]]:
        """Those that are new or changed, the newest first; those that failed before come last. What is older than
        content is kept is not fetched."""
        oldest = self._stores.clock.now() - self._stores.settings.content.keep_s * 1000
        found: list[tuple[Entry, Document | None]] = []
        fresh = [e for e in entries if not 0 < (e.updated_at or e.said.published_at) < oldest]
        for k in range(0, len(fresh), CHUNK):
            chunk = {document_id(u): replace(e, url=u) for e in fresh[k : k + CHUNK] for u in [normal_url(e.url)]}
            known = await self._kept.get_many(list(chunk))
            found += [(e, known.get(i)) for i, e in chunk.items() if _is_wanted(e, known.get(i))]
        newest = sorted(found, key=lambda one: -(one[0].updated_at or one[0].said.published_at))
        return sorted(newest, key=lambda one: one[1] is not None and one[1].status is Status.FAILED)

    async def _pages(self, source: Source, wanted: Sequence[tuple[Entry, Document | None]], tell: Tell) -> Collected:
        ends = self._stores.clock.monotonic() + BUDGET_S
        chosen = wanted[: self._stores.settings.content.pages]
        done = Collected(whole=len(chosen) == len(wanted))
        for k, (entry, known) in enumerate(chosen):
            if self._stores.clock.monotonic() > ends:
                done.whole = False
                break
            await tell(k, len(chosen))
            if not await self._one(source, entry, known, done):
                break
        return done

    async def _one(self, source: Source, entry: Entry, known: Document | None, done: Collected) -> bool:
        """False when the host wants to be left alone for now: the next collection goes on."""
        seen = Seen(known.etag, known.modified) if known and known.status is not Status.FAILED else Seen()
        try:
            page = await self._fetcher.get(entry.url, seen) if source.pages else None
        except FetchFailed as e:
            done.failed += 1
            done.whole &= not e.again
            if e.after_s is not None:
                return False
            if known is None or known.status is Status.FAILED:  # else what is known stays
                about = _document(entry, source, known, self._stores.clock.now())
                await self._kept.put(replace(about, status=Status.FAILED, error=e.message[:500], again=e.again))
            return True
        await self._keep(entry, page, source, known)
        done.fetched += page is not None
        done.new += known is None or known.status is Status.FAILED
        return True

    async def _keep(self, entry: Entry, page: Page | None, source: Source | None, known: Document | None) -> Document:
        """As fetched, or as before where nothing changed."""
        now = self._stores.clock.now()
        if page is not None and page.unchanged and known is not None:
            document = replace(known, updated_at=entry.updated_at)
        else:
            document = replace(_document(entry, source, known, now), **await self._raw(entry, page, now))
        await self._kept.put(document)
        return document

    async def _raw(self, entry: Entry, page: Page | None, now: int) -> dict[str, Any]:
        """The page among the blobs, and what the document says of it."""
        if page is None:
            return {}
        path = f"{folder_of(self._tenant, document_id(entry.url))}/{now}"
        await asyncio.to_thread(self._stores.blobs.put, path, page.body)
        about = {"url": page.url, "content_type": page.type, "charset": page.charset, "raw": path}
        return {**about, "etag": page.seen.etag, "modified": page.seen.modified}


def _is_wanted(entry: Entry, known: Document | None) -> bool:
    if known is None:
        return True
    return (known.status is Status.FAILED and known.again) or entry.updated_at > known.updated_at


def _document(entry: Entry, source: Source | None, known: Document | None, now: int) -> Document:
    """As it waits to be processed; its item, its keys and the time of its first fetch stay."""
    about = Document(document_id(entry.url), entry.url, Status.FETCHED, now) if known is None else known
    said, at = (about.said if entry.said == Found() else entry.said), entry.updated_at or about.updated_at
    about = replace(about, status=Status.FETCHED, said=said, updated_at=at, error="", again=False)
    if source is None:
        return about
    return replace(about, type=source.type, source_id=source.id, category=source.category)
