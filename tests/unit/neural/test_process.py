"""An event from its arrival to its end: what it does, that it does it once, and that it is found."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from ray_app.catalog import changes, sold_out
from ray_app.errors import InvalidField, NotFound
from ray_app.flows.item_events import Patch, Reader
from ray_app.neural import orders, process
from ray_app.neural.event import NeuralEvent
from ray_app.neural.tasks import HANDLERS, Event, process_neural_event
from ray_app.stores.base import Document, Where
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import STORE, Here, World, event

ORDER = event("order.created", {"order_id": "o", "customer_id": "anna", "lines": [{"dish_id": "soup"}]})


async def run(world: World, e: NeuralEvent) -> dict[str, Any]:
    asked = {k: v for k, v in e.public().items() if v is not None}
    return await process_neural_event(Event.model_validate(asked), Here(world))  # type: ignore[arg-type]


async def test_an_order_becomes_behaviours(world: World) -> None:
    found = await run(world, ORDER)
    effects = [{"effect": "behaviors", "order_id": "o", "cart": 1, "purchase": 0}]
    assert found == {"event_id": "e1", "duplicate": False, "indexed": True, "effects": effects}
    (one,) = await world.behaviors()
    assert (one.user_id, one.item_id, one.type, one.occurred_at) == ("anna", "soup", "cart", NOW)


async def test_the_same_event_again_does_nothing_whatever_it_says(world: World) -> None:
    await run(world, ORDER)
    other = event("order.created", {"order_id": "other", "customer_id": "ben", "lines": [{"dish_id": "tea"}]})
    for again in (ORDER, other):
        found = await run(world, again)
        assert found == {"event_id": "e1", "duplicate": True, "indexed": True, "effects": []}
    assert len(await world.behaviors()) == 1
    assert await world.documents.count(TENANT, orders.KIND) == 1


async def test_two_runs_at_once_of_one_event_count_once(world: World) -> None:
    await asyncio.gather(run(world, ORDER), run(world, ORDER))
    assert len({b.event_id for b in await world.behaviors()}) == 1
    found = await process.collection(world, TENANT).search("order created soup", 10)
    assert [f.document.id for f in found] == ["e1"]


async def test_an_event_that_another_run_kept_meanwhile_is_still_found(world: World) -> None:
    """It is given two rows then; the one that is written last is the one that is indexed."""

    async def overtaken() -> None:
        kept = process.collection(world, TENANT)
        row = await world.documents.next_number(TENANT, process.KIND)
        body = {**ORDER.body(), "effects": None, "row": row}
        await world.documents.upsert(TENANT, kept.kind, [Document(ORDER.event_id, process.OPEN, body)])

    await process.process(world, TENANT, ORDER, overtaken)
    kept = process.collection(world, TENANT)
    assert [f.document.id for f in await kept.newest(5)] == ["e1"]
    assert [f.document.id for f in await kept.search("order created soup", 5)] == ["e1"]


async def test_an_event_that_comes_late_adds_only_what_no_other_said(world: World) -> None:
    """The flows know a repeated behaviour for minutes; a till may have been away for a day."""
    lines = [{"dish_id": "soup"}, {"dish_id": "cake"}]
    await run(world, ORDER)
    await run(world, event("payment.completed", {"order_id": "o"}, "e2", NOW + 2))
    found = await run(world, event("order.updated", {"order_id": "o", "lines": lines}, "e3", NOW + 1))
    assert found["effects"] == [{"effect": "behaviors", "order_id": "o", "cart": 1, "purchase": 1}]
    await run(world, event("order.updated", {"order_id": "o", "status": "paid"}, "e4", NOW + 1))
    said = [(b.item_id, b.type) for b in await world.behaviors()]
    assert sorted(said) == sorted((d, t) for d in ("soup", "cake") for t in ("cart", "purchase"))


async def test_a_customer_who_is_told_late_gets_what_his_order_held(world: World) -> None:
    await run(world, event("order.updated", {"order_id": "o", "lines": [{"dish_id": "soup"}]}, "e2", NOW))
    await run(world, event("order.created", {"order_id": "o", "customer_id": "anna", "lines": [{"dish_id": "soup"}]},
                           "e1", NOW - 1))  # fmt: skip
    assert {b.user_id for b in await world.behaviors()} == {None, "anna"}


async def test_a_dish_becomes_a_change_of_its_item(world: World) -> None:
    data = {"dish_id": 7, "name": "Soup", "category": "starters", "price": 4.5, "available": True, "spicy": "no"}
    found = await run(world, event("dish.updated", data))
    assert [e["effect"] for e in found["effects"]] == ["item", "in_stock"]
    parts = [await world.log.read("items-ingest", p, 0, 10) for p in range(4)]
    (entry,) = [e for part in parts for e in part]
    change = Reader(world.settings.events).read(entry)
    assert isinstance(change, Patch)
    assert (change.tenant, change.id, change.version) == (TENANT, "7", NOW)
    said = {"title": "Soup", "category": "starters", "price": 4.5, "status": "available"}
    assert change.fields == {**said, "attributes": {"spicy": "no"}}
    assert change.whole is not None


async def test_a_dish_without_a_word_of_its_stock_says_nothing_of_it(world: World) -> None:
    found = await run(world, event("dish.updated", {"dish_id": "soup", "price": 3}))
    assert found["effects"] == [{"effect": "item", "item_id": "soup"}]
    assert await world.documents.count(TENANT, sold_out.KIND) == 0


@pytest.mark.parametrize(
    ("data", "is_out"),
    [
        ({"sold_out": True}, True), ({"sold_out": False, "quantity": 0}, False), ({"quantity": 0}, True),
        ({"quantity": 3, "threshold": 5}, False),
    ],
)  # fmt: skip
async def test_an_alert_is_told_to_every_replica(world: World, data: dict[str, Any], is_out: bool) -> None:
    found = await run(world, event("inventory.alert", {"dish_id": "soup", **data}))
    assert found["effects"] == [{"effect": "sold_out" if is_out else "in_stock", "item_id": "soup", "stands": True}]
    ((_, fields),) = await world.redis.xrange(changes.key("lemo", TENANT))
    assert (changes.decode(fields).item_id, changes.decode(fields).sold_out) == ("soup", is_out)


async def test_the_later_statement_of_the_stock_stands(world: World) -> None:
    await run(world, event("inventory.alert", {"dish_id": "soup", "sold_out": False}, "later", NOW))
    found = await run(world, event("inventory.alert", {"dish_id": "soup", "sold_out": True}, "before", NOW - 1))
    assert found["effects"][0]["stands"] is False
    assert len(await world.redis.xrange(changes.key("lemo", TENANT))) == 1


async def test_an_alert_that_the_state_store_forgot_is_told_again(world: World) -> None:
    alert = event("inventory.alert", {"dish_id": "soup", "sold_out": True})
    await run(world, alert)
    await world.redis.delete(changes.key("lemo", TENANT))
    assert (await run(world, alert))["duplicate"]
    assert len(await world.redis.xrange(changes.key("lemo", TENANT))) == 1


@pytest.mark.parametrize("type", ["staff.scheduled", "weather.changed"])
async def test_others_are_kept_and_found_and_do_nothing(world: World, type: str) -> None:
    found = await run(world, event(type, {"staff_id": "kim", "role": "waiter"}, event_source="elsewhere"))
    assert found["effects"] == []
    hits = await process.collection(world, TENANT).search("kim the waiter", 5)
    assert [f.document.id for f in hits] == ["e1"]
    assert await world.behaviors() == []


async def test_events_are_found_by_text_and_by_what_they_are(world: World) -> None:
    for k, word in enumerate(("kettle", "saucer", "lantern", "marble")):
        await run(world, event("note.made", {"text": f"the {word} broke"}, f"n{k}", NOW - k))
    await run(world, event("staff.scheduled", {"staff_id": "kim", "text": "kettle watch"}, "s", NOW))
    kept = process.collection(world, TENANT)
    best = await kept.search("a saucer broke", 2)
    assert best[0].document.id == "n1"
    assert best[0].score is not None
    where = [Where("event_type", "eq", "note.made"), Where("at", "gte", NOW - 2), Where("at", "lte", NOW - 1)]
    assert {f.document.id for f in await kept.search("kettle", 10, where)} == {"n1", "n2"}
    assert [f.document.id for f in await kept.newest(3)] == ["s", "n3", "n2"]
    assert [f.document.id for f in await kept.newest(1, [Where("event_type", "eq", "note.made")])] == ["n3"]


async def test_a_store_that_nobody_made_or_another_tenant_has_is_refused(world: World) -> None:
    asked = Event(event_id="e", event_type="x", store_id="nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        await process_neural_event(asked, Here(world))  # type: ignore[arg-type]
    asked = Event(event_id="e", event_type="x", store_id=STORE)
    with pytest.raises(NotFound):
        await process_neural_event(asked, Here(world, tenant="other"))  # type: ignore[arg-type]
    found = await process_neural_event(asked, Here(world, tenant="system"))  # type: ignore[arg-type]
    assert found["indexed"]
    assert await world.documents.count(TENANT, process.KIND) == 1


async def test_what_is_not_allowed_fails_at_once(world: World) -> None:
    handler = next(h for h in HANDLERS if h.name == "process_neural_event")
    assert (handler.verdicts[InvalidField], handler.verdicts[NotFound]) == ("fail", "fail")
    with pytest.raises(InvalidField):
        await process_neural_event(Event(event_id="e", event_type="order.created", store_id=STORE), Here(world))  # type: ignore[arg-type]


def test_old_producers_find_their_tasks() -> None:
    known = {h.name: (h.aliases, h.positional, h.queue) for h in HANDLERS}
    old = "src.core.celery_tasks."
    assert known["index_to_vector_db"] == ((f"{old}index_to_vector_db",), ("collection_name", "data"), "default")
    assert known["batch_index_orders"] == ((f"{old}batch_index_orders",), ("orders",), "low_priority")
    assert known["process_neural_event"][1][:2] == ("event_id", "event_type")
    assert orjson.dumps(sorted(known))


async def test_an_alert_is_told_before_its_task_runs_and_the_first_of_its_id_counts(world: World) -> None:
    alert = event("inventory.alert", {"dish_id": "soup", "quantity": 0})
    other = event("inventory.alert", {"dish_id": "tea", "quantity": 0})  # under the same id
    await process.hurry(world, TENANT, [alert, other])
    await process.hurry(world, TENANT, [other])

    async def stands() -> list[str]:
        return [c.item_id async for c in sold_out.read(world.documents, TENANT) if c.sold_out]

    assert await stands() == ["soup"]
    found = await run(world, other)
    assert found["effects"] == [{"effect": "sold_out", "item_id": "soup", "stands": True}]
    back = event("inventory.alert", {"dish_id": "soup", "quantity": 4}, "e2", NOW + 1)
    await process.hurry(world, TENANT, [back])
    await process.hurry(world, TENANT, [alert])  # it is done: the topic is read again
    assert await stands() == []
