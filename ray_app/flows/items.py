"""Item ingest: items to documents with a row number, a content vector, and an entry in the tenant's change feed.

Reads the shared topics and those of single tenants, where the topic's tenant counts; a tenant without an API key is
kept like any other.

Promise: at least once, idempotent; an older version never overwrites a newer one, of equal ones the later in the log
counts; a tombstone outlives a delete for `tombstone_s` of the log's time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.catalog import changes, rows
from ray_app.catalog.changes import Change
from ray_app.config import Settings
from ray_app.events.base import Logged
from ray_app.events.schema import Deleted, item_from_dict, item_to_dict
from ray_app.features.content import text
from ray_app.flows.item_events import ItemEvent, Reader, fold, topics
from ray_app.flows.read import events, reason
from ray_app.stores.base import Document, Outcome
from ray_app.streams.flow import Bad, Batch
from ray_app.streams.state import Op
from ray_app.types import Item

if TYPE_CHECKING:
    from ray_app.models.base import Embedder
    from ray_app.stores.base import Documents, Vectors

SWEEP_MS = 3_600_000  # between two looks for old tombstones
EmbedderOf = Callable[[str], Awaitable["Embedder | None"]]
Came = dict[str, list[tuple[Logged, ItemEvent]]]


class Items:
    name = "items"
    linger_s = 0.0

    def __init__(self, settings: Settings, documents: Documents, vectors: Vectors, embedder_of: EmbedderOf) -> None:
        self.topics, self._reader = topics(settings.events), Reader(settings.events)
        self._prefix, self._keep_ms = settings.stores.redis_prefix, settings.stores.tombstone_s * 1000
        self._swept_at = 0
        self._documents, self._vectors, self._embedder_of = documents, vectors, embedder_of

    async def flush(self, batch: Batch) -> Sequence[Op]:
        came: dict[str, Came] = defaultdict(lambda: defaultdict(list))
        for entry, e in events(batch, self._reader.read):
            came[e.tenant][e.id].append((entry, e))
        ops: list[Op] = []
        for tenant, items in sorted(came.items()):
            ops += await self._tenant(tenant, items, batch.bad)
        await self._sweep(batch.entries[-1].appended_at)
        return ops

    async def _sweep(self, now: int) -> None:
        if now - self._swept_at > SWEEP_MS:
            await self._documents.drop_tombstones(now - self._keep_ms)
            self._swept_at = now

    async def _tenant(self, tenant: str, came: Came, bad: list[Bad]) -> list[Op]:
        """`came`: by item id what the batch says of it, in order."""
        stored = await self._documents.get_many(tenant, "items", list(came), deleted=True)
        wanted: list[Item | Deleted] = []
        for id, said in came.items():
            folded = fold(_known(tenant, stored.get(id)), said)
            wanted += [folded.item] if folded.item else []
            bad += [Bad(entry, reason(why)) for entry, why in folded.lost]
        if not wanted:
            return []
        known = await rows.assign(self._documents, tenant, [e.id for e in wanted], stored)
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


def _known(tenant: str, stored: Document | None) -> Item | Deleted | None:
    if stored is None:
        return None
    return Deleted(tenant, stored.id, stored.version) if stored.deleted else item_from_dict(stored.body)


def _document(e: Item | Deleted, row: int) -> Document:
    if isinstance(e, Deleted):
        return Document(e.id, e.version, {"id": e.id, "row": row}, deleted=True)
    return Document(e.id, e.version, {**item_to_dict(e), "row": row})
