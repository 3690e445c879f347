"""Events and orders go when they were kept for long enough, and only then."""

from __future__ import annotations

from typing import Any

from ray_app.neural import orders, process, retention
from ray_app.neural.event import NeuralEvent
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import World, event

SOUP: dict[str, Any] = {"order_id": "o1", "lines": [{"dish_id": "soup"}]}


async def mine() -> None:
    """It always is."""


async def work(world: World, e: NeuralEvent) -> None:
    await process.process(world, TENANT, e, mine)


async def test_what_was_kept_for_long_enough_goes_with_what_finds_it(world: World) -> None:
    await work(world, event("order.created", SOUP, "e1", NOW))
    await work(world, event("note.made", {"text": "kettle"}, "e2", NOW))
    world.clock.pass_s(world.settings.neural.keep_s - 1)
    assert await retention.clean(world) == {"events": 0, "orders": 0}
    await work(world, event("note.made", {"text": "kettle"}, "e3", NOW))
    world.clock.pass_s(1)
    assert await retention.clean(world) == {"events": 2, "orders": 1}
    kept = process.collection(world, TENANT)
    assert [f.document.id for f in await kept.newest(5)] == ["e3"]
    assert [f.document.id for f in await kept.search("kettle", 5)] == ["e3"]
    for kind in (orders.KIND, orders.PARTS):
        assert await world.documents.count(TENANT, kind) == 0
    assert await retention.clean(world) == {"events": 0, "orders": 0}


async def test_an_order_of_old_that_was_told_today_is_kept(world: World) -> None:
    world.clock.pass_s(2 * world.settings.neural.keep_s)
    await work(world, event("order.created", SOUP, "e1", NOW))
    assert await retention.clean(world) == {"events": 0, "orders": 0}


async def test_an_order_with_a_new_event_stays_whole(world: World) -> None:
    await work(world, event("order.created", SOUP, "e1", NOW))
    world.clock.pass_s(world.settings.neural.keep_s)
    await work(world, event("payment.completed", {"order_id": "o1"}, "e2", NOW + 1))
    assert await retention.clean(world) == {"events": 1, "orders": 0}
    (order,) = await world.documents.find(TENANT, orders.KIND)
    assert [line["dish_id"] for line in order.body["lines"]] == ["soup"]
    assert await world.documents.count(TENANT, orders.PARTS) == 2


async def test_an_event_that_comes_again_after_it_went_is_a_new_one(world: World) -> None:
    note = event("note.made", {"text": "kettle"}, "e1", NOW)
    await work(world, note)
    world.clock.pass_s(world.settings.neural.keep_s)
    await retention.clean(world)
    assert not (await process.process(world, TENANT, note, mine))["duplicate"]
    kept = process.collection(world, TENANT)
    assert [f.document.id for f in await kept.search("kettle", 5)] == ["e1"]
    assert (await process.process(world, TENANT, note, mine))["duplicate"]
