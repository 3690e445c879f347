"""A fetched document becomes an item, a copy of another, or nothing; done again it becomes the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ray_app.catalog import item
from ray_app.content.dedupe import Copies, Copy, fingerprint, keys_of, original
from ray_app.content.document import Document, Found, Kept, Status, normal_url
from ray_app.content.extract import extract, language
from ray_app.content.failed import FetchFailed
from ray_app.content.stores import Stores
from ray_app.events.base import Entry
from ray_app.events.schema import delete_entry, item_entry


class Processor:
    """One tenant's. Everything that it writes is written before the document's new status, which therefore is true."""

    def __init__(self, stores: Stores, tenant: str) -> None:
        self._stores, self._tenant = stores, tenant
        self.kept = Kept(stores.documents, stores.clock, tenant)
        self.copies = Copies(stores.redis, stores.settings.stores.redis_prefix, tenant)

    async def process(self, id: str) -> Document:
        """Raises NotFound, Unavailable."""
        document = await self.kept.get(id)
        if document.status is not Status.FETCHED:
            return document
        try:
            read = await self._read(document)
        except FetchFailed as e:
            ended = await self.kept.get(id)  # another run of this task may have taken the page and ended meanwhile
            if ended.status is not Status.FETCHED:
                return ended
            return await self._end(document, Status.FAILED, error=e.message[:500])
        if not read.found.title and not read.found.text:
            return await self._end(read, Status.EMPTY)
        return await self.decide(read, document.keys)

    async def decide(self, document: Document, before: Iterable[str] = ()) -> Document:
        """Whether it is a copy, as things stand now; its item comes or goes accordingly. `before`: keys that it had."""
        await self.kept.put(document)  # another process, which finds it under its keys, needs its signature
        copy = await self.copy_of(document, before)
        if copy is not None:
            return await self._end(document, Status.DUPLICATE, duplicate_of=copy.of, copy=copy.kind)
        await self._append(item_entry(item.parse(_item(document), self._tenant, self._stores.clock.now())))
        return await self._end(document, Status.INDEXED, item_id=document.id)

    async def copy_of(self, document: Document, before: Iterable[str] = ()) -> Copy | None:
        """What it is a copy of, once it lies under its keys."""
        earlier = await self.copies.place(document.id, document.keys, tuple(before))
        known = await self.kept.get_many(sorted({i for found in earlier.values() for i in found}))
        copy = original(document, earlier, known, self._stores.settings.content.near)
        return copy if copy is not None and await self._is_there(copy) else None

    async def _is_there(self, copy: Copy) -> bool:
        """Retention may have taken the original and left its copies."""
        return copy.of in await self.kept.get_many([copy.of])

    async def _read(self, document: Document) -> Document:
        """With what was found in its page, else with what the list said. Raises FetchFailed for a page that is none."""
        found = document.said
        if document.raw:
            body = await asyncio.to_thread(self._stores.blobs.get, document.raw)
            if body is None:
                raise FetchFailed(f"the page of document {document.id} is gone from the blobs; fetch it again")
            page = await asyncio.to_thread(extract, body, document.charset, document.content_type, document.url)
            found = replace(page, **_first(document.said)).over(found)
        found = replace(found, language=found.language or language(f"{found.title} {found.text}"))
        made = await asyncio.to_thread(fingerprint, found)
        canonical = found.canonical or normal_url(document.url)
        return replace(
            document, found=found, hash=made.hash, signature=made.signature, keys=keys_of(made, canonical)
        )  # fmt: skip

    async def _end(self, document: Document, status: Status, **fields: object) -> Document:
        """With the item of before taken away, where it has none any more."""
        if document.item_id and status is not Status.INDEXED:
            await self._append(delete_entry(self._tenant, document.item_id, self._stores.clock.now()))
        plain: dict[str, Any] = {"item_id": "", "duplicate_of": "", "copy": "", "error": "", "raw": ""}
        now = self._stores.clock.now()
        ended = replace(document, status=status, processed_at=now, **{**plain, **fields})
        await self.kept.put(ended)
        if document.raw:
            await asyncio.to_thread(self._stores.blobs.remove, document.raw)
        return ended

    async def _append(self, entry: Entry) -> None:
        await self._stores.log.append(self._stores.settings.events.item_topic, [entry])


def _first(said: Found) -> dict[str, Any]:
    """What a list knows better than the page: the title without the site's name, and the time to the second."""
    return {k: v for k, v in (("title", said.title), ("published_at", said.published_at)) if v}


def _item(d: Document) -> dict[str, Any]:
    """As a client would write it."""
    found = d.found
    title = found.title or " ".join(found.text.split()[:12])
    about = {"url": d.url, "source": d.source_id, "language": found.language, "author": found.author}
    return {
        "item_id": d.id, "type": d.type, "title": title[: item.MOST_TITLE], "text": found.text[: item.MOST_TEXT],
        "category": d.category, "tags": list(found.tags), "media": [m for m in found.media if len(m) <= 2000],
        "published_at": found.published_at or d.fetched_at, "attributes": {k: v for k, v in about.items() if v},
    }  # fmt: skip
