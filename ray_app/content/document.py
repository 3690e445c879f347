"""Documents: what was fetched, what was found in it, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Any
from urllib.parse import urljoin

from ray_app.clock import Clock
from ray_app.errors import NotFound
from ray_app.stores.base import Document as Stored
from ray_app.stores.base import Documents, Where

KIND = "documents"
PAGE = 500


class Status(Enum):
    FETCHED = "fetched"  # waits for process_document
    INDEXED = "indexed"  # an item
    DUPLICATE = "duplicate"  # a copy of `duplicate_of`
    EMPTY = "empty"  # nothing to recommend was found in it
    FAILED = "failed"  # its page could not be had, or not be read


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a page, from a list that names it or from itself. Times are ms, 0 where not said."""

    title: str = ""
    text: str = ""
    published_at: int = 0
    author: str = ""
    tags: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    language: str = ""
    canonical: str = ""

    def over(self, other: Found) -> Found:
        """This one's fields, and where it has none the other's."""
        return replace(other, **{k: v for k, v in asdict(self).items() if v})


@dataclass(frozen=True, slots=True)
class Document:
    """`said`: what the list said that named it; `found`: all that counts, once processed. `raw`: the path of the page
    among the blobs, "" where there is none. `keys`, `signature`: by which copies are found (dedupe.py). `copy`: exact
    or near, for status duplicate. `item_id`: its item, "" where it has none. `error`: why it
    failed; `again`: another try may help. `version`: as it was read; each write has a later one, whatever the clock of
    its machine says."""

    id: str
    url: str
    status: Status
    fetched_at: int
    type: str = "news"
    source_id: str = ""
    category: str = ""
    raw: str = ""
    content_type: str = ""
    charset: str = ""
    etag: str = ""
    modified: str = ""
    updated_at: int = 0
    said: Found = Found()
    found: Found = Found()
    processed_at: int = 0
    hash: str = ""
    signature: str = ""
    keys: tuple[str, ...] = ()
    duplicate_of: str = ""
    copy: str = ""
    item_id: str = ""
    error: str = ""
    again: bool = False
    version: int = 0

    def public(self) -> dict[str, Any]:
        """As the API shows it: without what is ours alone, and with the found fields beside the others."""
        body = asdict(self)
        hidden = ("said", "raw", "signature", "keys", "hash", "found", "version")
        shown = {k: v for k, v in body.items() if k not in hidden}
        return {"document_id": shown.pop("id"), **shown, "status": self.status.value, **body["found"]}


def normal_url(url: str) -> str:
    """Without what only tracks, in one spelling; one document each."""
    from courlan import clean_url

    return str(clean_url(url) or url)


def joined(base: str, link: str) -> str:
    """`link` as it is meant on the page `base`; "" for one that is no URL, which anybody may have written."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""


def document_id(url: str) -> str:
    """Of a normal URL."""
    return sha256(url.encode()).hexdigest()[:32]


def folder_of(tenant: str, id: str) -> str:
    """Where a document's fetched pages lie among the blobs."""
    return f"{tenant}/content/{id}"


class Kept:
    """One tenant's documents."""

    def __init__(self, documents: Documents, clock: Clock, tenant: str) -> None:
        self._documents, self._clock, self._tenant = documents, clock, tenant

    async def get(self, id: str) -> Document:
        """Raises NotFound."""
        found = await self.get_many([id])
        if id not in found:
            raise NotFound(f"document {id!r} is unknown to tenant {self._tenant!r}", field="document_id", value=id)
        return found[id]

    async def get_many(self, ids: Sequence[str]) -> dict[str, Document]:
        return {i: _read(d) for i, d in (await self._documents.get_many(self._tenant, KIND, ids)).items()}

    async def put(self, *documents: Document) -> None:
        written = [Stored(d.id, self.version(d), _body(d)) for d in documents]
        await self._documents.upsert(self._tenant, KIND, written)

    def version(self, document: Document) -> int:
        """Of what is written of it now."""
        return max(self._clock.now(), document.version + 1)

    async def delete(self, ids: Sequence[str]) -> None:
        now = self._clock.now()
        await self._documents.upsert(self._tenant, KIND, [Stored(i, now, {}, deleted=True) for i in ids])

    async def page(self, where: Sequence[Where] = (), limit: int = PAGE, after: str = "") -> list[Document]:
        """By id, those above `after`."""
        return [_read(d) for d in await self._documents.find(self._tenant, KIND, where, limit, after)]

    async def pages(self, where: Sequence[Where] = ()) -> AsyncIterator[list[Document]]:
        after = ""
        while page := await self.page(where, PAGE, after):
            yield page
            after = page[-1].id


def _body(d: Document) -> dict[str, Any]:
    body = {**asdict(d), "status": d.status.value}
    del body["version"]
    return body


def _read(stored: Stored) -> Document:
    body = dict(stored.body)
    for name in ("said", "found"):
        one = body[name]
        body[name] = Found(**{**one, "tags": tuple(one["tags"]), "media": tuple(one["media"])})
    own = {"status": Status(body["status"]), "keys": tuple(body["keys"]), "version": stored.version}
    return Document(**{**body, **own})
