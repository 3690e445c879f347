"""Stores belong to one tenant; what is sold out is out of a shelf, whatever else is said of the item."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ray_app.catalog import sold_out, store
from ray_app.catalog.changes import Change
from ray_app.catalog.rows import Epoch
from ray_app.catalog.shelf import Shelf
from ray_app.catalog.shelves import Shelves, _placed
from ray_app.catalog.sold_out import SoldOut, Statement
from ray_app.catalog.store import Store, Stores
from ray_app.clock import FixedClock
from ray_app.errors import Forbidden, InvalidField, NotFound, Unavailable
from ray_app.events.schema import item_to_dict
from ray_app.stores.base import Document
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from tests.unit.make import NOW, TENANT, change, gone, item

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis


@pytest.fixture
def chain(documents: MemoryDocuments, redis: Redis, clock: FixedClock) -> Stores:
    return Stores(documents, redis, "p", clock)


async def test_a_store_is_written_read_and_listed(chain: Stores) -> None:
    one = store.parse("s1", "a", {"title": "Corner", "timezone": "Europe/London", "attributes": {"seats": 12}})
    await chain.put(one)
    await chain.put(Store("s2", "b"))
    assert await chain.get("s1", "a") == one == await chain.get("s1")
    assert await chain.list("a") == [one]
    assert [s.id for s in await chain.list("system")] == ["s1", "s2"]


async def test_a_store_of_another_tenant_cannot_be_seen_or_taken(chain: Stores) -> None:
    await chain.put(Store("s1", "a"))
    with pytest.raises(NotFound):
        await chain.get("s1", "b")
    with pytest.raises(Forbidden):
        await chain.put(Store("s1", "b"))
    assert (await chain.get("s1")).tenant == "a"


async def test_of_two_tenants_at_once_one_has_the_store(chain: Stores) -> None:
    tenants = [f"t{k}" for k in range(20)]
    made = await asyncio.gather(*(chain.put(Store("s1", t)) for t in tenants), return_exceptions=True)
    (owner,) = [t for t, answer in zip(tenants, made, strict=True) if answer is None]
    assert (await chain.get("s1")).tenant == owner
    assert sum(isinstance(answer, Forbidden) for answer in made) == 19


def test_a_time_zone_must_be_known() -> None:
    with pytest.raises(InvalidField) as e:
        store.parse("s", "a", {"timezone": "Mars/Base"})
    assert e.value.field == "timezone"


def out(id: str, version: int, is_out: bool = True) -> Change:
    return Change(id, -1, version, None, sold_out=is_out)


def available(shelf: Shelf) -> list[bool]:
    pinned = shelf.pin()
    return [bool(x) for x in pinned.available]


def test_what_is_sold_out_is_not_available_until_it_is_said_to_be() -> None:
    shelf = Shelf()
    shelf.apply([change(0, item("a")), change(1, item("b"))])
    before = shelf.pin()
    shelf.apply([out("a", 5)])
    assert available(shelf) == [False, True]
    assert bool(before.available[0])  # who holds the state of before keeps it
    shelf.apply([change(0, item("a", version=9, price=3.0))])
    assert available(shelf) == [False, True]
    shelf.apply([out("a", 4, False)])
    assert available(shelf) == [False, True]
    shelf.apply([out("a", 6, False)])
    assert available(shelf) == [True, True]


def test_it_may_be_said_before_the_item_is_there_and_outlives_its_removal() -> None:
    shelf = Shelf()
    shelf.apply([out("a", 1)])
    assert available(shelf) == []
    shelf.apply([change(0, item("a"))])
    assert available(shelf) == [False]
    shelf.apply([gone(0, "a", 2), out("a", 2, False)])
    assert available(shelf) == [False]
    shelf.apply([change(0, item("a", version=3, status="unavailable"))])
    assert available(shelf) == [False]
    shelf.apply([change(0, item("a", version=4))])
    assert available(shelf) == [True]


async def test_replicas_hear_of_it_and_new_ones_read_it(
    documents: MemoryDocuments, redis: Redis, tmp_path: Path
) -> None:
    body = {**item_to_dict(item("a")), "row": await documents.next_number(TENANT, "rows")}
    await documents.upsert(TENANT, "items", [Document("a", 1, body)])
    vectors = SqliteVectors(tmp_path / "vectors.db")
    running = Shelves(documents, vectors, redis, "p", lambda tenant: None)
    shelf = await running.of(TENANT)
    running.start()
    said = SoldOut(documents, redis, "p")
    assert await said.say(TENANT, [Statement("a", True, NOW)]) == [True]
    await asyncio.wait_for(running.caught_up(TENANT), 10)
    assert available(shelf) == [False]
    assert await said.say(TENANT, [Statement("a", False, NOW)]) == [False]  # of one moment, out counts
    started = Shelves(documents, vectors, redis, "p", lambda tenant: None)
    assert available(await started.of(TENANT)) == [False]
    await running.stop()
    await vectors.close()


async def test_of_many_statements_the_latest_of_each_item_stands(documents: MemoryDocuments, redis: Redis) -> None:
    said = [Statement("a", True, NOW), Statement("b", False, NOW), Statement("a", False, NOW + 1)]
    assert await SoldOut(documents, redis, "p").say(TENANT, said) == [False, True, True]
    stands = {c.item_id: c.sold_out for c in await sold_out.among(documents, TENANT, ["a", "b", "c"])}
    assert stands == {"a": False, "b": False}
    assert await redis.xlen("p:changes:t") == 2


def test_a_shelf_in_other_rows_hears_of_it_too() -> None:
    epoch = Epoch("1", np.array([-1, 0], np.int32))
    shelf = Shelf(1, epoch)
    shelf.apply(_placed([out("a", 5), change(1, item("a")), change(0, item("gone"))], epoch))
    assert available(shelf) == [False]


async def test_a_store_that_was_not_written_is_not_said_to_be(chain: Stores, clock: FixedClock) -> None:
    await chain.put(Store("s1", "a", "Corner"))
    clock.at -= 1
    with pytest.raises(Unavailable, match="clock"):
        await chain.put(Store("s1", "a", "Bridge"))
    assert (await chain.get("s1")).title == "Corner"
