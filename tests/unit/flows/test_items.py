"""Item ingest: messages of any producer become documents, and what cannot be applied is set aside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ray_app.catalog import changes
from ray_app.config import Settings
from ray_app.events.base import Logged
from ray_app.flows.items import Items
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op
from tests.unit.make import NOW

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.models.base import Embedder


async def no_embedder(tenant: str) -> Embedder | None:
    return None


class Ingest:
    def __init__(self, documents: MemoryDocuments, folder: Path) -> None:
        self.documents = documents
        self._flow = Items(Settings(), documents, SqliteVectors(folder / "vectors.db"), no_embedder)
        self._position = 0

    async def __call__(self, *raw: Any, topic: str = "items-ingest") -> Batch:
        """One batch; `ops` of the last one are kept."""
        bodies = [r if isinstance(r, bytes) else orjson.dumps(r) for r in raw]
        entries = [Logged(topic, 0, self._position + k, NOW + k, "", body) for k, body in enumerate(bodies)]
        self._position += len(raw)
        batch = Batch(entries)
        self.ops: list[Op] = list(await self._flow.flush(batch))
        return batch

    async def stored(self, id: str, tenant: str = "t") -> dict[str, Any] | None:
        found = await self.documents.get(tenant, "items", id)
        return None if found is None else {k: found.body[k] for k in ("title", "price", "type", "version", "row")}


@pytest.fixture
def ingest(documents: MemoryDocuments, tmp_path: Path) -> Ingest:
    return Ingest(documents, tmp_path)


def event(kind: str, tenant: str | None = "t", **data: Any) -> dict[str, Any]:
    return {"event_type": f"item.{kind}", "tenantId": tenant, "data": {"itemId": "i", **data}}


async def test_create_update_and_delete_follow_the_log(ingest: Ingest) -> None:
    await ingest(event("created", title="A", price=1), event("updated", price=2))
    assert await ingest.stored("i") == {"title": "A", "price": 2.0, "type": "item", "version": NOW + 1, "row": 0}
    await ingest(event("deleted", version=NOW + 2))
    assert await ingest.stored("i") is None
    await ingest(event("created", title="late", version=NOW + 1))
    assert await ingest.stored("i") is None
    await ingest(event("created", title="B", version=NOW + 9))
    assert await ingest.stored("i") == {"title": "B", "price": None, "type": "item", "version": NOW + 9, "row": 0}


async def test_each_change_is_told_to_those_who_follow(ingest: Ingest, redis: Redis) -> None:
    await ingest(event("created", title="A"), event("updated", price=2), event("created", title="X", itemId="j"))
    for op in ingest.ops:
        await redis.execute_command(*op.command)
    told = [changes.decode(fields) for _, fields in await redis.xrange(changes.key("lemo", "t"))]
    assert [(c.item_id, c.row, c.item and c.item["price"]) for c in told] == [("i", 0, 2.0), ("j", 1, None)]


async def test_a_tenant_without_a_key_is_kept_like_any_other(ingest: Ingest) -> None:
    batch = await ingest(event("created", None, title="A"), topic="item-events-never-heard-of")
    assert not batch.bad
    assert await ingest.stored("i", "never-heard-of")
    assert await ingest.stored("i") is None


async def test_what_cannot_be_applied_is_set_aside_and_the_rest_goes_on(ingest: Ingest) -> None:
    batch = await ingest(
        event("updated", price=2), b"{", event("created", "T", title="A"), event("created", title="A", itemId="j"),
        topic="vlog-items",
    )  # fmt: skip
    bad = sorted((b.entry.position, b.why.split(" ")[1]) for b in batch.bad)
    assert bad == [(0, "item_id"), (1, "unexpected"), (2, "tenant_id")]
    found = await ingest.stored("j")
    assert found is not None
    assert (found["type"], found["row"]) == ("vlog", 0)  # an update of nothing takes no row


async def test_a_topic_may_not_be_used_for_another_tenant(ingest: Ingest) -> None:
    batch = await ingest(event("created", title="A"), topic="item-events-u")
    assert "'u', the tenant of topic item-events-u" in batch.bad[0].why
    assert await ingest.stored("i") is await ingest.stored("i", "u") is None
