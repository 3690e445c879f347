"""What a replica keeps current: it begins with what is live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ray_app.access.keys import Keys
from ray_app.catalog.shelves import Shelves
from ray_app.clock import FixedClock
from ray_app.config import Features
from ray_app.events.schema import item_to_dict
from ray_app.features.boards import Boards
from ray_app.registry.pointer import ROWS
from ray_app.registry.registry import Registry
from ray_app.registry.watch import Live
from ray_app.serving.background import Background
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.streams.control import Prefixes
from tests.unit.make import TENANT, item

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_a_replica_that_starts_reads_its_catalogue_in_the_live_rows_at_once(
    documents: MemoryDocuments, redis: Redis, clock: FixedClock, tmp_path: Path
) -> None:
    one = item("i1")
    await documents.upsert(TENANT, "items", [Document("i1", 1, {**item_to_dict(one), "row": 1})])
    await documents.next_number(TENANT, "rows", 2)
    registry, keys = Registry(documents, Blobs(tmp_path / "blobs"), clock), Keys(documents, clock)
    await keys.create(TENANT)
    rows = await registry.register(TENANT, ROWS, {ROWS: np.array([-1, 0], np.int32)})
    assert not await registry.switch(TENANT, rows, [], {})
    live, vectors = Live(registry), SqliteVectors(tmp_path / "vectors.db")
    shelves = Shelves(
        documents, vectors, redis, "p", lambda t: live.of(t).space(), lambda t: live.of(t).epoch
    )  # fmt: skip
    known = Background(clock, keys, live, shelves, Boards(redis, lambda: "p", Features()), Prefixes(redis, "p"))
    await known.start()
    pinned = (await shelves.of(TENANT)).pin()
    assert (pinned.epoch, dict(pinned.rows)) == (rows.id, {"i1": 0})
    await known.stop()
    await vectors.close()
