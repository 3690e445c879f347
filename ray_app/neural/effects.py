"""What an event does: orders become behaviours, dishes items, and an alert takes an item out of the answers.

Each effect may be done again, after a crash in its middle, and then has the same outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from ray_app.catalog.sold_out import SoldOut, Statement
from ray_app.events.base import Entry
from ray_app.events.schema import behavior_entry
from ray_app.events.wire import TENANT, snake
from ray_app.events.wire_items import ITEM, UPDATED, VERSION
from ray_app.neural import orders
from ray_app.neural.event import Alert, Dish, NeuralEvent, Order, Payment, read
from ray_app.neural.stores import Stores

Done = list[dict[str, Any]]
OURS = frozenset((*TENANT, *ITEM, *UPDATED, *VERSION, "id", "dish_id"))


async def apply(stores: Stores, tenant: str, event: NeuralEvent) -> Done:
    """One entry for each effect; none for a type that has none."""
    effect = EFFECTS.get(event.event_type)
    return await effect(stores, tenant, event) if effect else []


async def again(stores: Stores, tenant: str, event: NeuralEvent) -> None:
    """Of an event that is done: what it said of an item's stock, if it still stands, is told to the replicas once more.
    A state store that lost its last second may have forgotten that it was told."""
    if event.urgent:
        await _alert(stores, tenant, event)


async def _order(stores: Stores, tenant: str, event: NeuralEvent) -> Done:
    said = read(Payment, event) if event.event_type == "payment.completed" else read(Order, event)
    order_id = said.order_id
    known = await orders.keep(stores.documents, tenant, event, order_id, stores.clock.now())
    found = orders.behaviors(tenant, event, order_id, known)
    if found:
        await stores.log.append(stores.settings.events.behavior_topic, [behavior_entry(b) for b in found])
        await orders.tell(stores.documents, tenant, event, order_id, found)
    counts = {type: sum(b.type == type for b in found) for type in ("cart", "purchase")}
    return [{"effect": "behaviors", "order_id": order_id, **counts}]


async def _dish(stores: Stores, tenant: str, event: NeuralEvent) -> Done:
    """A change of the item, by the rules of the item topic: other fields of the data become fields or attributes of it.
    The event's time is the item's version."""
    dish = read(Dish, event)
    said = {k: v for k, v in event.data.items() if snake(k) not in OURS}
    data = {**said, "item_id": dish.dish_id, "version": event.at}
    body = orjson.dumps({"event_type": "item.updated", "tenant_id": tenant, "data": data})
    await stores.log.append(stores.settings.events.item_topic, [Entry(f"{tenant}/{dish.dish_id}", body)])
    done: Done = [{"effect": "item", "item_id": dish.dish_id}]
    return done + (await _stock(stores, tenant, Statement(dish.dish_id, False, event.at)) if dish.available else [])


async def _alert(stores: Stores, tenant: str, event: NeuralEvent) -> Done:
    return await _stock(stores, tenant, statement(event))


async def _stock(stores: Stores, tenant: str, said: Statement) -> Done:
    (stands,) = await stock(stores).say(tenant, [said])
    return [{"effect": "sold_out" if said.is_out else "in_stock", "item_id": said.item_id, "stands": stands}]


def stock(stores: Stores) -> SoldOut:
    """Where statements of the stock go."""
    return SoldOut(stores.documents, stores.redis, stores.settings.stores.redis_prefix)


def statement(alert: NeuralEvent) -> Statement:
    """What an alert says of the stock."""
    said = read(Alert, alert)
    return Statement(said.dish_id, said.is_out, alert.at)


EFFECTS: Mapping[str, Callable[[Stores, str, NeuralEvent], Awaitable[Done]]] = {
    "order.created": _order,
    "order.updated": _order,
    "payment.completed": _order,
    "dish.updated": _dish,
    "inventory.alert": _alert,
}
