"""Collections: documents that are found by their text, with a vector each, and by what their head says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.models.text import projection
from ray_app.stores.base import MOST_ANSWERS, Document, Where
from ray_app.types import Matrix

if TYPE_CHECKING:
    from ray_app.stores.base import Documents, Vectors

LAST = 10**12  # heads are kept under this less their row, so that the newest is the first by id
MOST_TEXT = 4000  # characters that are embedded
WIDER = 8  # candidates for each answer, before filters


@dataclass(frozen=True, slots=True)
class Entry:
    """`head`: what searches may filter by."""

    id: str
    body: Mapping[str, Any]
    text: str
    head: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """`score`: the cosine with what was asked, or None where nothing was."""

    document: Document
    score: float | None


class Collection:
    """One tenant's. Documents are of kind `name`, with the row of their vector in the body. A row is given once; one
    that a crash left without its document is found by nobody."""

    def __init__(self, documents: Documents, vectors: Vectors, tenant: str, name: str) -> None:
        self._documents, self._vectors, self._tenant, self.kind = documents, vectors, tenant, name
        self._heads = f"heads_{name}"  # no collection's own name begins so

    async def _embedded(self, texts: Sequence[str]) -> tuple[str, Matrix]:
        """The space, and vectors in it; in a thread, since the first of a process make a matrix of tens of MB."""

        def work() -> tuple[str, Matrix]:
            by = projection()
            return f"{self.kind}-{by.version}", by.embed([t[:MOST_TEXT] for t in texts])

        return await asyncio.to_thread(work)

    async def get(self, id: str) -> Document | None:
        return await self._documents.get(self._tenant, self.kind, id)

    async def get_many(self, ids: Sequence[str]) -> dict[str, Document]:
        return await self._documents.get_many(self._tenant, self.kind, ids)

    async def keep(self, entries: Sequence[Entry], version: int, indexed: Sequence[int] = ()) -> list[int]:
        """Their documents, each in the place of one with its id and no newer version; returns the rows: those `indexed`
        of each, or those that they had, or new ones."""
        rows = {e.id: row for e, row in zip(entries, indexed, strict=False)}
        if not rows:
            known = await self._documents.get_many(self._tenant, self.kind, [e.id for e in entries])
            rows = {id: int(d.body["row"]) for id, d in known.items()}
        new = [id for id in dict.fromkeys(e.id for e in entries) if id not in rows]
        if new:
            first = await self._documents.next_number(self._tenant, self.kind, len(new))
            rows.update({id: first + k for k, id in enumerate(new)})
        made = [Document(e.id, version, {**e.body, "row": rows[e.id]}) for e in entries]
        await self._documents.upsert(self._tenant, self.kind, made)
        return [rows[e.id] for e in entries]

    async def index(self, entries: Sequence[Entry], rows: Sequence[int]) -> None:
        """What `keep` kept can be found from now on."""
        space, vectors = await self._embedded([e.text for e in entries])
        await self._vectors.upsert(self._tenant, space, np.asarray(rows, np.int32), vectors)
        heads = [Document(_head(r), 0, {**e.head, "found": e.id}) for e, r in zip(entries, rows, strict=True)]
        await self._documents.upsert(self._tenant, self._heads, heads)

    async def put(self, entries: Sequence[Entry], version: int) -> None:
        """Keep them and index them."""
        await self.index(entries, await self.keep(entries, version))

    async def forget(self, documents: Sequence[Document]) -> None:
        """Take them away; what finds them goes first."""
        rows = [int(d.body["row"]) for d in documents]
        space, _ = await self._embedded([""])
        await self._vectors.delete(self._tenant, space, np.asarray(rows, np.int32))
        heads = [Document(_head(r), 0, {}, deleted=True) for r in rows]
        await self._documents.upsert(self._tenant, self._heads, heads)
        gone = [Document(d.id, d.version, {}, deleted=True) for d in documents]
        await self._documents.upsert(self._tenant, self.kind, gone)

    async def newest(self, n: int, where: Sequence[Where] = ()) -> list[Found]:
        """The last n (by their rows) that pass `where`, the newest first."""
        heads = await self._documents.find(self._tenant, self._heads, where, n)
        return [Found(d, None) for d in await self._of(heads)]

    async def search(self, text: str, n: int, where: Sequence[Where] = ()) -> list[Found]:
        """The n nearest that pass `where`, the nearest first; of the MOST_ANSWERS nearest ones where few pass."""
        space, (query,) = await self._embedded([text])
        wanted, found = min(MOST_ANSWERS, n * (WIDER if where else 1)), list[Found]()
        while True:
            rows, scores = await self._vectors.search(self._tenant, space, query, wanted)
            found = await self._passing(rows.tolist(), scores.tolist(), where)
            if len(found) >= n or len(rows) < wanted or wanted == MOST_ANSWERS:
                return found[:n]
            wanted = min(MOST_ANSWERS, wanted * WIDER)

    async def _passing(self, rows: Sequence[int], scores: Sequence[float], where: Sequence[Where]) -> list[Found]:
        ids = [_head(r) for r in rows]
        narrowed = [Where("id", "in", ids), *where]
        heads = {d.id: d for d in await self._documents.find(self._tenant, self._heads, narrowed, len(ids))}
        score = {id: s for id, s in zip(ids, scores, strict=True) if id in heads}
        documents = await self._of([heads[id] for id in score])
        return [Found(d, score[_head(d.body["row"])]) for d in documents]

    async def _of(self, heads: Sequence[Document]) -> list[Document]:
        """A head whose row its document does not have is that of a run that was overtaken."""
        ids = [d.body["found"] for d in heads]
        known = await self._documents.get_many(self._tenant, self.kind, ids)
        pairs = ((known.get(id), head) for id, head in zip(ids, heads, strict=True))
        return [d for d, head in pairs if d is not None and _head(d.body["row"]) == head.id]


def _head(row: int) -> str:
    return f"{LAST - row:013d}"


def words(value: object) -> str:
    """The text of any JSON: its texts and numbers, with the names of its fields, in their order."""
    return " ".join(_words(value))[:MOST_TEXT]


def _words(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from _words(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _words(one)
    elif value is not None:
        yield str(value)
