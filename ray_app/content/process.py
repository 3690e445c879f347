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
from ray_app.errors import InvalidField
from ray_app.events.base import Entry
from ray_app.events.schema import delete_entry, item_entry
from ray_app.types import Item

NOTHING = (Status.EMPTY, Status.FAILED)  # whatever such a document was found to be before, it has no item now


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
            read, why = await self._read(document), ""
            if read.found.title or read.found.text:
                self._item(read)
        except (FetchFailed, InvalidField) as e:
            read, why = document, e.message[:500]
        seen = await self.kept.get(id)
        if (seen.status, seen.raw) != (document.status, document.raw):  # meanwhile it was fetched again, or processed
            return await self.process(id)
        if why:
            return await self._end(document, Status.FAILED, error=why)
        if not read.found.title and not read.found.text:
            return await self._end(read, Status.EMPTY)
        return await self.decide(read, document.keys)

    async def decide(self, document: Document, before: Iterable[str] = ()) -> Document:
        """Whether it is a copy, as things stand now; its item comes or goes accordingly. `before`: keys that it had."""
        await self.kept.put(document)  # another process, which finds it under its keys, needs its signature
        copy = await self.copy_of(document, before)
        if copy is not None:
            return await self._end(document, Status.DUPLICATE, duplicate_of=copy.of, copy=copy.kind)
        await self._append(item_entry(self._item(document)))
        return await self._end(document, Status.INDEXED, item_id=document.id)

    async def copy_of(self, document: Document, before: Iterable[str] = ()) -> Copy | None:
        """What it is a copy of, once it lies under its keys."""
        earlier = await self.copies.place(document.id, document.keys, tuple(before))
        found = await self.kept.get_many(sorted({i for ids in earlier.values() for i in ids}))
        known = {i: d for i, d in found.items() if d.status not in NOTHING}
        copy = original(document, earlier, known, self._stores.settings.content.near)
        return copy if copy is not None and await self._is_there(copy) else None

    async def _is_there(self, copy: Copy) -> bool:
        """Retention may have taken the original and left its copies."""
        return copy.of in await self.kept.get_many([copy.of])

    def _item(self, document: Document) -> Item:
        """Raises InvalidField for what no item may have."""
        return item.parse(_fields(document), self._tenant, self.kept.version(document))

    async def _read(self, document: Document) -> Document:
        """With what was found in its page, else with what the list said. Raises FetchFailed for a page that is none."""
        found = document.said
        if document.raw:
            body = await asyncio.to_thread(self._stores.blobs.get, document.raw)
            if body is None:
                raise FetchFailed(f"the page of document {document.id} is gone from the blobs; fetch it again")
            page = await asyncio.to_thread(_extracted, body, document)
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
            await self._append(delete_entry(self._tenant, document.item_id, self.kept.version(document)))
        plain: dict[str, Any] = {"item_id": "", "duplicate_of": "", "copy": "", "error": "", "raw": ""}
        now = self._stores.clock.now()
        ended = replace(document, status=status, processed_at=now, **{**plain, **fields})
        await self.kept.put(ended)
        if document.raw:
            await asyncio.to_thread(self._stores.blobs.remove, document.raw)
        return ended

    async def _append(self, entry: Entry) -> None:
        await self._stores.log.append(self._stores.settings.events.item_topic, [entry])


def _extracted(body: bytes, d: Document) -> Found:
    """Raises FetchFailed, whatever the libraries raise: bytes that anybody wrote break them alike at every try."""
    try:
        return extract(body, d.charset, d.content_type, d.url)
    except FetchFailed:
        raise
    except Exception as e:
        raise FetchFailed(f"{d.url} cannot be read: {type(e).__name__}: {str(e)[:200]}") from e


def _first(said: Found) -> dict[str, Any]:
    """What a list knows better than the page: the title without the site's name, and the time to the second."""
    return {k: v for k, v in (("title", said.title), ("published_at", said.published_at)) if v}


def _fields(d: Document) -> dict[str, Any]:
    """As a client would write it."""
    found = d.found
    title = found.title or " ".join(found.text.split()[:12])
    about = {"url": d.url, "source": d.source_id, "language": found.language, "author": found.author}
    return {
        "item_id": d.id, "type": d.type, "title": title[: item.MOST_TITLE], "text": found.text[: item.MOST_TEXT],
        "category": d.category, "tags": list(found.tags), "media": [m for m in found.media if len(m) <= 2000],
        "published_at": found.published_at or d.fetched_at, "attributes": {k: v for k, v in about.items() if v},
    }  # fmt: skip
