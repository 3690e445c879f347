"""A new embedder goes live when what was written meanwhile has its vectors too."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ray_app.clock import FixedClock
from ray_app.config import load
from ray_app.events.schema import item_to_dict
from ray_app.registry.registry import Registry
from ray_app.registry.version import Version
from ray_app.registry.watch import EMBEDDER
from ray_app.stores.base import Document, Where
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.training.embed import PASSES, embed
from tests.unit.make import TENANT, item
from tests.unit.training.test_gate import World

if TYPE_CHECKING:
    from redis.asyncio import Redis

TITLES = ("red tea", "green cup", "blue pot", "red cup", "green tea", "blue tea")


def document(row: int, id: str, title: str, version: int = 1) -> Document:
    return Document(id, version, {**item_to_dict(item(id, version, title=title)), "row": row})


class Busy(MemoryDocuments):
    """Items are written while others read: after the reads of these numbers, one each."""

    def __init__(self, clock: FixedClock, after: Sequence[int]) -> None:
        super().__init__(clock)
        self.after, self.reads, self.written, self.read_at = set(after), 0, dict[str, int](), 0.0

    async def find(
        self, tenant: str, kind: str, where: Sequence[Where] = (), limit: int = 100, after: str = ""
    ) -> list[Document]:
        found = await super().find(tenant, kind, where, limit, after)
        if kind == "items" and not found:  # a whole pass is done
            self.reads, self.read_at = self.reads + 1, time.monotonic()
            if self.reads in self.after:
                row = await self.next_number(tenant, "rows")
                self.written[f"late{row}"] = row
                await self.upsert(tenant, "items", [document(row, f"late{row}", "green pot")])
        return found


class Watched(Registry):
    """Keeps which rows had a vector when the embedder went live, and when that was."""

    vectors: SqliteVectors
    rows: list[int]
    live_at = 0.0

    async def promote(self, tenant: str, version: Version) -> Version:
        self.rows = (await self.vectors.load(tenant, version.about["space"]))[0].tolist()
        self.live_at = time.monotonic()
        return await super().promote(tenant, version)


@dataclass
class Here(World):
    told: list[str]


@pytest.fixture
async def made(clock: FixedClock, redis: Redis, tmp_path: Path) -> AsyncIterator[Here]:
    vectors, blobs = SqliteVectors(tmp_path / "v.db"), Blobs(tmp_path / "blobs")
    documents = Busy(clock, ())
    registry = Watched(documents, blobs, clock)
    registry.vectors = vectors
    await documents.upsert(TENANT, "items", [document(k, f"i{k}", t) for k, t in enumerate(TITLES)])
    await documents.next_number(TENANT, "rows", len(TITLES))
    settings = load({"LEMO_DATA": str(tmp_path)})
    nothing: Any = None
    yield Here(settings, clock, documents, vectors, redis, nothing, blobs, registry, [])
    await vectors.close()


@pytest.mark.parametrize(("after", "before", "last"), [
    ((1,), 7, 0),  # while the first vectors are made
    ((1, 2, 3), 9, 0),  # and during the passes behind
    ((2,), 6, 1),  # after the pass that found nothing, when it goes live
])  # fmt: skip
async def test_what_is_written_meanwhile_has_its_vector_before_the_embedder_goes_live(
    made: Here, monkeypatch: pytest.MonkeyPatch, after: Sequence[int], before: int, last: int
) -> None:
    monkeypatch.setattr("ray_app.training.embed.SETTLE_S", 0.05)
    documents: Any = made.documents
    documents.after = set(after)
    report = await embed(made, TENANT, made.told.append, size=3)
    live: Any = await made.registry.live(TENANT, EMBEDDER)
    assert report.version == live.id
    registry: Any = made.registry
    assert registry.rows == list(range(before))
    assert documents.read_at - registry.live_at >= 0.05  # a writer may have asked for the embedder just before
    assert made.told[-1] == f"{last} items were written while it went live"
    rows, vectors = await made.vectors.load(TENANT, live.about["space"])
    assert rows.tolist() == list(range(before + last))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


async def test_where_writes_never_end_it_goes_live_all_the_same_and_says_so(made: Here) -> None:
    documents: Any = made.documents
    documents.after = set(range(100))
    report = await embed(made, TENANT, made.told.append, size=3)
    assert report.version
    assert f"it goes live after {PASSES} passes" in made.told[-2]
    assert made.told[-1] == "1 items were written while it went live"
