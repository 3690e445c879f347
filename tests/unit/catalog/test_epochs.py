"""Numbers and rows: the map of an epoch, and a shelf that moves to another one under its readers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ray_app.catalog import changes
from ray_app.catalog.plane import Space
from ray_app.catalog.rows import FIRST, Epoch
from ray_app.catalog.shelf import Shelf
from ray_app.catalog.shelves import Shelves
from ray_app.models.text import TextEmbedder
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.types import Rows
from tests.unit.catalog.test_shelves import SOON_S, WORDS, World, titles, until
from tests.unit.make import TENANT, item

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOVED = Epoch("moved", np.array([-1, 0, -1, 1, 2], np.int32))


def numbers(*given: int) -> Rows:
    return np.array(given, np.int32)


def test_at_first_a_number_is_a_row() -> None:
    assert FIRST.of(numbers(0, 7, 3)).tolist() == [0, 7, 3]
    assert FIRST.size(9) == 9


def test_numbers_without_an_item_have_no_row_and_later_ones_follow_without_a_gap() -> None:
    assert MOVED.of(numbers(0, 1, 2, 3, 4, 5, 6, 1)).tolist() == [-1, 0, -1, 1, 2, 3, 4, 0]
    assert (MOVED.kept, MOVED.size(5), MOVED.size(7)) == (3, 3, 5)
    assert MOVED.of(numbers()).tolist() == []
    everyone = Epoch("none", np.full(3, -1, np.int32))
    assert everyone.of(numbers(2, 3)).tolist() == [-1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_of_any_map_the_rows_are_as_many_as_kept_and_in_the_order_of_the_numbers(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    there = drawn.random(200) < drawn.random()
    dense = np.full(200, -1, np.int32)
    dense[there] = np.arange(there.sum())
    rows = Epoch("e", dense).of(np.arange(260, dtype=np.int32))
    assert rows[rows >= 0].tolist() == list(range(int(there.sum()) + 60))
    assert (rows[:200] >= 0).tolist() == there.tolist()


class Moving:
    """A world whose rows, and whose embedder with them, move when it is said."""

    def __init__(self, world: World) -> None:
        self.epoch = FIRST
        self.space: Space | None = None
        self.shelves = Shelves(
            world.documents, world.vectors, world.redis, "p", lambda t: self.space, lambda t: self.epoch
        )


@pytest.fixture
def world(documents: MemoryDocuments, redis: Redis, tmp_path: Path) -> World:
    return World(documents, SqliteVectors(tmp_path / "vectors.db"), redis)


async def shop(world: World) -> Moving:
    """Items i0 .. i4 with vectors by number, of which i0 and i2 are gone without a trace."""
    for k, words in enumerate(WORDS):
        await world.write(item(f"i{k}", title=words))
    world.embedder = TextEmbedder.fit(WORDS, 3)
    vectors = world.embedder.embed(WORDS)
    await world.vectors.upsert(TENANT, world.embedder.version, np.arange(5, dtype=np.int32), vectors)
    made = Moving(world)
    made.space = Space(world.embedder.version, world.embed, vectors)
    await made.shelves.of(TENANT)
    for k in (0, 2):
        await world.delete(f"i{k}", 2)
    made.shelves.start()
    await asyncio.wait_for(made.shelves.caught_up(TENANT), SOON_S)
    return made


async def test_a_shelf_moves_with_its_items_and_vectors_and_goes_on_with_the_feed(world: World) -> None:
    made = await shop(world)
    assert world.embedder is not None
    old = (await made.shelves.of(TENANT)).pin()
    ready: list[tuple[str, int]] = []

    async def told(tenant: str, shelf: Shelf) -> None:
        assert await made.shelves.of(tenant) is not shelf  # nobody has it yet
        ready.append((shelf.epoch.id, shelf.pin().n))

    made.shelves.ready = told
    made.epoch = MOVED
    made.space = Space(world.embedder.version, world.embed, world.embedder.embed([WORDS[k] for k in (1, 3, 4)]))
    await until(made.shelves, lambda shelf: shelf.epoch is MOVED)
    assert ready == [("moved", 3)]
    now = (await made.shelves.of(TENANT)).pin()
    assert (now.n, now.epoch, list(now.rows)) == (3, "moved", ["i1", "i3", "i4"])
    assert titles(now) == titles(old) == {f"i{k}": WORDS[k] for k in (1, 3, 4)}
    assert np.allclose(now.vectors.whole(), world.embedder.embed([WORDS[k] for k in (1, 3, 4)]), atol=1e-6)

    await world.write(item("i3", 2, title="red tea"))
    await world.write(item("new", title="green tea"))
    await asyncio.wait_for(made.shelves.caught_up(TENANT), SOON_S)
    later = (await made.shelves.of(TENANT)).pin()
    assert (later.row_of("i3"), later.row_of("new"), later.n) == (1, 3, 4)
    assert titles(later) == titles(now) | {"i3": "red tea", "new": "green tea"}
    assert np.allclose(later.vectors.whole()[[1, 3]], world.embedder.embed(["red tea", "green tea"]), atol=1e-6)
    await made.shelves.stop()
    await world.vectors.close()


async def test_an_item_under_a_number_without_a_row_is_on_no_row_of_another(world: World) -> None:
    made = await shop(world)
    made.epoch = MOVED
    await world.write(item("i2", 3, title="it was written when the rows were counted"))
    await until(made.shelves, lambda shelf: shelf.epoch is MOVED)
    await world.write(item("i2", 4, title="and again"))
    await world.write(item("i4", 2, title="another"))
    await asyncio.wait_for(made.shelves.caught_up(TENANT), SOON_S)
    pinned = (await made.shelves.of(TENANT)).pin()
    assert titles(pinned) == {"i1": WORDS[1], "i3": WORDS[3], "i4": "another"}
    assert pinned.row_of("i2") is None
    await made.shelves.stop()
    await world.vectors.close()


async def test_vectors_of_other_rows_wait_for_a_shelf_that_has_them(world: World) -> None:
    """The models have moved, and the shelf is still being loaded."""
    made, began, wait = await shop(world), asyncio.Event(), asyncio.Event()
    old = await made.shelves.of(TENANT)

    async def ready(tenant: str, shelf: Shelf) -> None:
        began.set()
        await wait.wait()

    made.shelves.ready = ready
    made.epoch, made.space = MOVED, Space("another", lambda items: np.ones((len(items), 2), np.float32))
    await asyncio.wait_for(began.wait(), SOON_S)
    for version in (2, 3):  # turns of the reader
        await world.write(item("i3", version, title=f"tea {version}"))
        await asyncio.wait_for(made.shelves.caught_up(TENANT), SOON_S)
    assert await made.shelves.of(TENANT) is old
    assert (old.space, titles(old.pin())["i3"]) == (world.embedder.version if world.embedder else "", "tea 3")
    wait.set()
    await until(made.shelves, lambda shelf: shelf.epoch is MOVED)  # at once with all that the one before had
    now = await made.shelves.of(TENANT)
    assert (now.space, titles(now.pin())["i3"]) == ("another", "tea 3")
    await made.shelves.stop()
    await world.vectors.close()


async def test_a_shelf_moves_also_where_the_feed_was_lost(world: World) -> None:
    made = await shop(world)
    await world.redis.delete(changes.key("p", TENANT))
    made.epoch = MOVED
    await until(made.shelves, lambda shelf: shelf.epoch is MOVED)
    await world.write(item("i3", 2, title="red tea"))
    await until(made.shelves, lambda shelf: titles(shelf.pin())["i3"] == "red tea")
    await made.shelves.stop()
    await world.vectors.close()
