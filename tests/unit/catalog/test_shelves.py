"""The shelves of a replica, on a real Redis: loading, the feed, and a feed that was trimmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ray_app.catalog import changes
from ray_app.catalog.changes import Change
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.plane import Space
from ray_app.catalog.shelf import Shelf
from ray_app.catalog.shelves import Shelves
from ray_app.events.schema import item_to_dict
from ray_app.features.content import text
from ray_app.models.text import TextEmbedder
from ray_app.stores.base import Document
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.types import Item, Matrix
from tests.unit.make import TENANT, item

if TYPE_CHECKING:
    from redis.asyncio import Redis

WORDS = ["red tea cup", "green tea pot", "blue cup", "red pot", "green cup and pot"]
SOON_S = 10.0


@dataclass
class World:
    """Writes as the items flow does: the document, then the feed."""

    documents: MemoryDocuments
    vectors: SqliteVectors
    redis: Redis
    embedder: TextEmbedder | None = None
    rows: dict[str, int] = field(default_factory=dict)

    def shelves(self) -> Shelves:
        return Shelves(self.documents, self.vectors, self.redis, "p", self._live)

    def _live(self, tenant: str) -> Space | None:
        return None if self.embedder is None else Space(self.embedder.version, self.embed)

    def embed(self, items: Sequence[Item]) -> Matrix:
        assert self.embedder is not None
        return self.embedder.embed([text(i) for i in items])

    async def write(self, one: Item) -> None:
        row = self.rows.get(one.id)
        if row is None:
            row = self.rows[one.id] = await self.documents.next_number(TENANT, "rows")
        body = {**item_to_dict(one), "row": row}
        await self.documents.upsert(TENANT, "items", [Document(one.id, one.version, body)])
        await self._tell(Change(one.id, row, one.version, body))

    async def delete(self, id: str, version: int) -> None:
        row = self.rows[id]
        await self.documents.upsert(TENANT, "items", [Document(id, version, {"id": id, "row": row}, deleted=True)])
        await self._tell(Change(id, row, version, None))

    async def _tell(self, change: Change) -> None:
        await self.redis.xadd(changes.key("p", TENANT), changes.encode(change))  # type: ignore[arg-type]


@pytest.fixture
async def world(documents: MemoryDocuments, redis: Redis, tmp_path: Path) -> AsyncIterator[World]:
    vectors = SqliteVectors(tmp_path / "vectors.db")
    made = World(documents, vectors, redis)
    for k, words in enumerate(WORDS):
        await made.write(item(f"i{k}", title=words))
    yield made
    await vectors.close()


def titles(p: Pinned) -> dict[str, str]:
    return {p.ids[r]: p.titles[r] for r in np.flatnonzero(p.available)}


async def until(shelves: Shelves, seen: Callable[[Shelf], bool]) -> None:
    """Soon it is on the shelf: the feed's reader is a task of its own and tells nobody."""
    async with asyncio.timeout(SOON_S):
        while not seen(await shelves.of(TENANT)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_shelf_begins_to_load_when_it_is_asked_for(world: World) -> None:
    shelves = world.shelves()
    assert shelves.held(TENANT) is None
    loaded = await shelves.of(TENANT)
    assert shelves.held(TENANT) is loaded
    assert titles(loaded.pin()) == {f"i{k}": w for k, w in enumerate(WORDS)}
    await shelves.stop()


async def test_an_unknown_tenant_has_an_empty_shelf(world: World) -> None:
    shelves = world.shelves()
    assert (await shelves.of("nobody")).pin().n == 0
    await shelves.stop()


async def test_many_who_ask_at_once_load_it_once(world: World) -> None:
    shelves = world.shelves()
    found = await asyncio.gather(*(shelves.of(TENANT) for _ in range(20)))
    assert len({id(s) for s in found}) == 1
    await shelves.stop()


async def test_what_the_feed_says_is_on_the_shelf_when_it_has_caught_up(world: World) -> None:
    shelves = world.shelves()
    await shelves.of(TENANT)
    shelves.start()
    await world.write(item("i0", 2, title="purple tea"))
    await world.write(item("new", title="brown bowl"))
    await world.delete("i1", 2)
    await asyncio.wait_for(shelves.caught_up(TENANT), SOON_S)
    found = titles((await shelves.of(TENANT)).pin())
    assert found == {
        "i0": "purple tea", "new": "brown bowl", **{f"i{k}": WORDS[k] for k in (2, 3, 4)},
    }  # fmt: skip
    await shelves.stop()


async def test_a_feed_that_was_trimmed_past_our_place_means_a_reload(world: World) -> None:
    """The reader slept, and the change of i0 is no longer in the feed."""
    shelves = world.shelves()
    await shelves.of(TENANT)
    await world.write(item("i0", 2, title="purple tea"))
    await world.write(item("i1", 2, title="yellow pot"))
    await world.redis.xtrim(changes.key("p", TENANT), maxlen=1, approximate=False)
    shelves.start()
    expected = {"i0": "purple tea", "i1": "yellow pot", **{f"i{k}": WORDS[k] for k in (2, 3, 4)}}
    await until(shelves, lambda shelf: titles(shelf.pin()) == expected)
    await shelves.stop()


async def test_the_reader_goes_on_after_the_state_store_was_away(world: World, redis_server: Any) -> None:
    shelves = world.shelves()
    await shelves.of(TENANT)
    shelves.start()
    redis_server.stop()
    redis_server.start()
    await world.write(item("i0", 2, title="purple tea"))
    expected = {"i0": "purple tea", **{f"i{k}": WORDS[k] for k in range(1, 5)}}
    await until(shelves, lambda shelf: titles(shelf.pin()) == expected)
    await shelves.stop()


async def test_vectors_come_from_the_store_and_what_lacks_one_is_embedded_here(world: World) -> None:
    world.embedder = TextEmbedder.fit(WORDS, 3)
    vectors = world.embedder.embed(WORDS)
    await world.vectors.upsert(TENANT, world.embedder.version, np.arange(3, dtype=np.int32), vectors[:3])
    shelves = world.shelves()
    shelf = await shelves.of(TENANT)
    assert shelf.space == world.embedder.version
    assert np.allclose(shelf.pin().vectors.whole(), vectors, atol=1e-6)
    await shelves.stop()


async def test_an_item_of_the_feed_without_a_vector_is_embedded_here(world: World) -> None:
    world.embedder = TextEmbedder.fit(WORDS, 3)
    await world.vectors.upsert(
        TENANT, world.embedder.version, np.arange(5, dtype=np.int32), world.embedder.embed(WORDS)
    )
    shelves = world.shelves()
    await shelves.of(TENANT)
    shelves.start()
    await world.write(item("new", title="green tea"))
    await asyncio.wait_for(shelves.caught_up(TENANT), SOON_S)
    pinned = (await shelves.of(TENANT)).pin()
    assert np.allclose(pinned.vectors.whole()[pinned.row_of("new")], world.embedder.embed(["green tea"])[0], atol=1e-6)
    await shelves.stop()


async def test_a_new_embedder_moves_the_shelf_to_its_space(world: World) -> None:
    shelves = world.shelves()
    assert (await shelves.of(TENANT)).space == ""
    shelves.start()
    embedder = TextEmbedder.fit(WORDS, 2)
    await world.vectors.upsert(TENANT, embedder.version, np.arange(5, dtype=np.int32), embedder.embed(WORDS))
    world.embedder = embedder
    await until(shelves, lambda shelf: shelf.space == embedder.version)
    assert (await shelves.of(TENANT)).pin().vectors.whole().shape == (5, 2)
    await shelves.stop()
