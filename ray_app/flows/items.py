"""Item ingest: items to documents with a row number, a content vector, and an entry in the tenant's change feed.

Promise: at least once, idempotent; an older version never overwrites a newer one; a tombstone outlives a delete for
`tombstone_s` of the log's time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.catalog import changes, rows
from ray_app.catalog.changes import Change
from ray_app.config import Stores
from ray_app.events.schema import Deleted, item_to_dict, read_item_event
from ray_app.features.content import text
from ray_app.flows.read import events
from ray_app.stores.base import Document, Outcome
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op
from ray_app.types import Item

if TYPE_CHECKING:
    from ray_app.models.base import Embedder
    from ray_app.stores.base import Documents, Vectors

SWEEP_MS = 3_600_000  # between two looks for old tombstones
EmbedderOf = Callable[[str], Awaitable["Embedder | None"]]


class Items:
    name = "items"
    linger_s = 0.0

    def __init__(
        self, topic: str, settings: Stores, documents: Documents, vectors: Vectors, embedder_of: EmbedderOf
    ) -> None:
        self.topic, self._prefix, self._keep_ms = topic, settings.redis_prefix, settings.tombstone_s * 1000
        self._swept_at = 0
        self._documents, self._vectors, self._embedder_of = documents, vectors, embedder_of

    async def flush(self, batch: Batch) -> Sequence[Op]:
        last: dict[tuple[str, str], Item | Deleted] = {}
        came: dict[tuple[str, str], int] = {}
        for at, e in events(batch, read_item_event):
            held = last.get((e.tenant, e.id))
            came.setdefault((e.tenant, e.id), at)
            if held is None or e.version >= held.version:
                last[e.tenant, e.id] = e
        ops: list[Op] = []
        for tenant in sorted({t for t, _ in last}):
            mine = {id: at for (t, id), at in came.items() if t == tenant}
            ops += await self._tenant(tenant, mine, [last[tenant, id] for id in mine])
        await self._sweep(batch.entries[-1].appended_at)
        return ops

    async def _sweep(self, now: int) -> None:
        if now - self._swept_at > SWEEP_MS:
            await self._documents.drop_tombstones(now - self._keep_ms)
            self._swept_at = now

    async def _tenant(self, tenant: str, came: dict[str, int], events: list[Item | Deleted]) -> list[Op]:
        """`came`: by item id when (ms) the first of the batch was appended."""
        stored = await self._documents.get_many(tenant, "items", list(came), deleted=True)
        known = await rows.assign(self._documents, tenant, list(came), stored)
        wanted = [_dated(e, stored.get(e.id), came[e.id]) for e in events]
        written = [_document(e, known[e.id]) for e in wanted]
        outcomes = await self._documents.upsert(tenant, "items", written)
        live = [e for e, o in zip(wanted, outcomes, strict=True) if o is not Outcome.STALE]
        vectors, space = await self._embed(tenant, [e for e in live if isinstance(e, Item)], known)
        key = changes.key(self._prefix, tenant)
        ops = []
        for e in live:
            body = item_to_dict(e) if isinstance(e, Item) else None
            change = Change(e.id, known[e.id], e.version, body, vectors.get(e.id), space)
            fields = [part for pair in changes.encode(change).items() for part in pair]
            ops.append(Op(("XADD", key, "MAXLEN", "~", changes.MAX_CHANGES, "*", *fields)))
        return ops

    async def _embed(self, tenant: str, items: list[Item], known: dict[str, int]) -> tuple[dict[str, Any], str]:
        embedder = await self._embedder_of(tenant)
        if embedder is None or not items:
            return {}, ""
        found = embedder.embed([text(i) for i in items])
        at = np.array([known[i.id] for i in items], np.int32)
        await self._vectors.upsert(tenant, embedder.version, at, found)
        return {i.id: v for i, v in zip(items, found, strict=True)}, embedder.version


def _dated(e: Item | Deleted, stored: Document | None, came: int) -> Item | Deleted:
    """An item that says nothing of its publication keeps the date that it has; a new one was published when it came."""
    if isinstance(e, Deleted) or e.published_at:
        return e
    return replace(e, published_at=(stored.body.get("published_at") if stored else None) or came)


def _document(e: Item | Deleted, row: int) -> Document:
    if isinstance(e, Deleted):
        return Document(e.id, e.version, {"id": e.id, "row": row}, deleted=True)
    return Document(e.id, e.version, {**item_to_dict(e), "row": row})
