"""Use cases of a tenant's sources, and of the documents that came from them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ray_app.content import source as sources
from ray_app.content.document import Document, Kept, Status
from ray_app.content.source import Sources
from ray_app.errors import InvalidField, Unavailable
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count
from ray_app.serving.use import Answer, Ask, Use
from ray_app.stores.base import Where
from ray_app.types import Item

if TYPE_CHECKING:
    from ray_app.catalog.pinned import Pinned

MOST_LISTED, MOST_FOUND, MOST_QUERY = 1000, 100, 1000
BEYOND = 5  # of what is looked at: an item of a content type may have come by another way than from a source


async def list_sources(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ())
    return {"sources": [asdict(s) for s in await _sources(app, tenant).list()]}


async def get_source(app: App, tenant: str, raw: Ask) -> Answer:
    """With what its last collection found."""
    refuse_unknown(raw, ("source",))
    id, kept = sources.parse_source_id(raw.get("source")), _sources(app, tenant)
    return {**asdict(await kept.get(id)), "state": asdict(await kept.state(id))}


async def put_source(app: App, tenant: str, raw: Ask) -> Answer:
    """Written whole."""
    fields = {k: v for k, v in raw.items() if k not in ("source", "state")}  # what a get gave can be put back
    id = sources.parse_source_id(raw.get("source"))
    if fields.pop("id", id) != id:
        raise InvalidField("id", raw["id"], f"{id!r}, as in the path, or none")
    made = sources.parse(id, fields)
    await _sources(app, tenant).put(made)
    return asdict(made)


async def delete_source(app: App, tenant: str, raw: Ask) -> Answer:
    """Its documents and items stay."""
    refuse_unknown(raw, ("source",))
    id = sources.parse_source_id(raw.get("source"))
    await _sources(app, tenant).delete(id)
    return {"deleted": id}


async def list_documents(app: App, tenant: str, raw: Ask) -> Answer:
    """Without their texts, which `get_document` has."""
    refuse_unknown(raw, ("limit", "after", "status", "source_id"))
    limit = parse_count("limit", raw.get("limit", 100), MOST_LISTED)
    if raw.get("status") not in (None, *(s.value for s in Status)):
        raise InvalidField("status", raw["status"], ", ".join(s.value for s in Status))
    where = [Where(f, "eq", raw[f]) for f in ("status", "source_id") if raw.get(f) is not None]
    found = await _documents(app, tenant).page(where, limit + 1, str(raw.get("after") or ""))
    answer: Answer = {"documents": [_short(d) for d in found[:limit]]}
    return {**answer, "next": found[limit - 1].id} if len(found) > limit else answer


async def get_document(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("document_id",))
    return (await _documents(app, tenant).get(parse_id("document_id", raw.get("document_id")))).public()


async def search_documents(app: App, tenant: str, raw: Ask) -> Answer:
    """The documents that are most like a text, by the vectors of their items. Raises Unavailable before the tenant's
    first index."""
    refuse_unknown(raw, ("q", "n"))
    q, n = raw.get("q"), parse_count("n", raw.get("n", 10), MOST_FOUND)
    if not isinstance(q, str) or not q.strip() or len(q) > MOST_QUERY:
        raise InvalidField("q", q, f"a text of 1 to {MOST_QUERY} characters")
    space, state = app.space_of(tenant), (await app.shelves.of(tenant)).pin()
    if space is None or space.name != state.space:
        raise Unavailable(f"tenant {tenant!r} has no index of texts yet. Make it: the task rebuild_index")
    (query,) = await asyncio.to_thread(space.embed, [Item(tenant, "", "", q, 0)])
    scores = _best(state, query, BEYOND * n)
    found = await _documents(app, tenant).get_many(list(scores))
    return {"documents": [{**_short(found[i]), "score": s} for i, s in scores.items() if i in found][:n]}


def _best(state: Pinned, query: np.ndarray, n: int) -> dict[str, float]:
    """Scores by id of the nearest available items of the types that sources have, the best first."""
    wanted = [k for k, name in enumerate(state.types) if name in sources.TYPES]
    scores = np.where(state.available & np.isin(state.type, wanted), state.vectors.scores(query), -np.inf)
    best = np.argsort(-scores, kind="stable")[:n]
    return {state.ids[r]: float(scores[r]) for r in best.tolist() if scores[r] > 0}


def _short(d: Document) -> Answer:
    return {k: v for k, v in d.public().items() if k != "text"}


def _sources(app: App, tenant: str) -> Sources:
    return Sources(app.documents, app.clock, tenant)


def _documents(app: App, tenant: str) -> Kept:
    return Kept(app.documents, app.clock, tenant)


SOURCE = "/api/v1/sources/{source}"
USES = (
    Use("list_sources", "GET", "/api/v1/sources", list_sources, "Where the tenant's content comes from"),
    Use("get_source", "GET", SOURCE, get_source, "One source, and how its last collection went"),
    Use("put_source", "PUT", SOURCE, put_source, "Write a source: a feed, a sitemap, a page of links or a JSON API"),
    Use("delete_source", "DELETE", SOURCE, delete_source, "Take a source away; its documents stay"),
    Use("list_documents", "GET", "/api/v1/documents", list_documents, "Fetched documents by id, page by page",
        query=("limit", "after", "status", "source_id")),
    Use("search_documents", "GET", "/api/v1/documents/search", search_documents, "Documents that are like a text",
        query=("q", "n")),
    Use("get_document", "GET", "/api/v1/documents/{document_id}", get_document, "One document with its text"),
)  # fmt: skip
