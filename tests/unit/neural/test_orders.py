"""What the events of one order say together, in whichever order they come."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from ray_app.neural import orders
from ray_app.neural.event import NeuralEvent
from ray_app.stores.memory import MemoryDocuments
from ray_app.types import Behavior
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import event

LINES = [{"dish_id": "soup", "quantity": 2, "price": 4.5}, {"dish_id": "tea"}]
CREATED = event("order.created", {"order_id": "o", "customer_id": 17, "lines": LINES}, "c", NOW)
MORE = event("order.updated", {"order_id": "o", "lines": [*LINES, {"dish_id": "cake"}]}, "u", NOW + 1000)
PAID = event("payment.completed", {"order_id": "o", "paid_at": NOW + 1500}, "p", NOW + 2000)


async def come(documents: MemoryDocuments, *events: NeuralEvent) -> list[Behavior]:
    """What each adds as it comes."""
    found = []
    for e in events:
        known = await orders.keep(documents, TENANT, e, "o", NOW)
        found += orders.behaviors(TENANT, e, "o", known)
    return found


def shown(found: Sequence[Behavior]) -> list[tuple[str, str]]:
    return [(b.type, b.item_id) for b in found]


async def test_an_order_puts_its_dishes_into_the_cart_and_a_payment_buys_them(documents: MemoryDocuments) -> None:
    found = await come(documents, CREATED, PAID)
    assert shown(found) == [("cart", "soup"), ("cart", "tea"), ("purchase", "soup"), ("purchase", "tea")]
    assert [b.user_id for b in found] == ["17"] * 4
    assert [b.value for b in found] == [9.0, None, 9.0, None]
    assert [b.occurred_at - NOW for b in found] == [0, 0, 1500, 1500]


async def test_an_update_adds_only_what_it_brings(documents: MemoryDocuments) -> None:
    status = event("order.updated", {"order_id": "o", "status": "cooking"}, "s", NOW + 500)
    found = await come(documents, CREATED, status, MORE)
    assert shown(found) == [("cart", "soup"), ("cart", "tea"), ("cart", "cake")]


async def test_a_dish_after_the_payment_is_bought_too(documents: MemoryDocuments) -> None:
    late = event("order.updated", {"order_id": "o", "lines": [*LINES, {"dish_id": "pie"}]}, "l", NOW + 9000)
    assert shown(await come(documents, CREATED, PAID, late))[4:] == [("cart", "pie"), ("purchase", "pie")]


async def test_a_second_payment_buys_nothing_again(documents: MemoryDocuments) -> None:
    rest = event("payment.completed", {"order_id": "o"}, "r", NOW + 5000)
    assert shown(await come(documents, CREATED, PAID, rest)) == shown(await come(MemoryDocuments(documents._clock),
                                                                                  CREATED, PAID))  # fmt: skip


@pytest.mark.parametrize("order", list(permutations((CREATED, MORE, PAID))))
async def test_events_may_come_in_any_order(documents: MemoryDocuments, order: Sequence[NeuralEvent]) -> None:
    found = {(b.event_id, b.type, b.item_id, b.user_id) for b in await come(documents, *order)}
    bought = {item for _, type, item, _ in found if type == "purchase"}
    assert bought == {"soup", "tea", "cake"}
    assert {item for _, type, item, _ in found if type == "cart"} == {"soup", "tea", "cake"}
    assert len({id for id, *_ in found}) == 6
    (kept,) = await documents.find(TENANT, orders.KIND)
    assert (kept.body["paid_at"], len(kept.body["lines"]), kept.body["at"]) == (NOW + 1500, 3, NOW)


async def test_a_status_may_say_paid_or_cancelled(documents: MemoryDocuments) -> None:
    paid = event("order.created", {"order_id": "o", "lines": LINES, "status": "Paid"}, "c", NOW)
    assert shown(await come(documents, paid))[2:] == [("purchase", "soup"), ("purchase", "tea")]
    gone = event("order.updated", {"order_id": "o", "status": "cancelled"}, "x", NOW + 1)
    assert shown(await come(documents, gone, PAID)) == []


async def test_an_order_without_a_customer_is_a_session_of_its_own(documents: MemoryDocuments) -> None:
    data: dict[str, Any] = {"order_id": "o", "customer_id": None, "lines": LINES}
    found = await come(documents, event("order.created", data))
    assert found[0].user_id is None
    assert found[0].session_id == found[1].session_id


async def test_two_lines_of_a_dish_are_one_and_none_of_it_is_no_line(documents: MemoryDocuments) -> None:
    lines = [{"dish_id": "soup", "price": 2}, {"dish_id": "soup", "quantity": 3}, {"dish_id": "tea", "quantity": 0}]
    (one,) = await come(documents, event("order.created", {"order_id": "o", "lines": lines}))
    assert (one.item_id, one.value) == ("soup", 8.0)
