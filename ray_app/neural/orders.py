"""Orders: what the events of one order say together, and which behaviours follow from each.

An order is the fold of its events in the order in which they happened, however they come: each is kept first, then the
order is read, so that of two that are worked on at once at least one sees both. Behaviours have ids made of order and
dish, so what both find counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ray_app.errors import InvalidField
from ray_app.events.schema import AHEAD_MS
from ray_app.neural.event import Line, NeuralEvent, Order, Payment, digest, event_of, read
from ray_app.stores.base import Document, Where
from ray_app.types import Behavior

if TYPE_CHECKING:
    from ray_app.stores.base import Documents

KIND, PARTS = "orders", "order_parts"
MOST_PARTS = 1000
PAID = frozenset({"paid", "completed", "complete", "closed", "delivered", "fulfilled"})
CANCELLED = frozenset({"cancelled", "canceled", "refunded", "void", "voided", "rejected"})


@dataclass(frozen=True, slots=True)
class Sale:
    """An order as its events left it. `paid_at` 0: it is not. `lines`: by dish, only what is ordered."""

    store_id: str
    order_id: str
    at: int = 0
    updated_at: int = 0
    customer_id: str | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)
    total: float | None = None
    status: str = ""
    paid_at: int = 0

    @property
    def key(self) -> str:
        return digest(self.store_id, self.order_id)

    @property
    def cancelled(self) -> bool:
        return self.status.lower() in CANCELLED

    def body(self) -> dict[str, Any]:
        """As it is stored, indexed and analysed."""
        return {
            "store_id": self.store_id, "order_id": self.order_id, "customer_id": self.customer_id, "at": self.at,
            "updated_at": self.updated_at, "total": self.total, "status": self.status, "paid_at": self.paid_at,
            "cancelled": self.cancelled, "lines": [line.model_dump() for line in self.lines.values()],
        }  # fmt: skip


def fold(sale: Sale, events: Iterable[NeuralEvent]) -> Sale:
    """`sale` after these events, in their order."""
    for e in events:
        sale = replace(sale, at=sale.at or e.at, updated_at=e.at)
        sale = _paid(sale, read(Payment, e), e.at) if e.event_type == "payment.completed" else _ordered(sale, e)
    return sale


def _paid(sale: Sale, payment: Payment, at: int) -> Sale:
    said = payment.paid_at
    return replace(sale, paid_at=sale.paid_at or (said if said is not None and 0 < said <= at + AHEAD_MS else at))


def _ordered(sale: Sale, e: NeuralEvent) -> Sale:
    order = read(Order, e)
    status = sale.status if order.status is None else order.status
    return replace(
        sale,
        customer_id=order.customer_id or sale.customer_id,
        lines=sale.lines if order.lines is None else _by_dish(order.lines),
        total=sale.total if order.total is None else order.total,
        status=status,
        paid_at=sale.paid_at or (e.at if status.lower() in PAID else 0),
    )


def _by_dish(lines: Sequence[Line]) -> dict[str, Line]:
    """Two lines of one dish as one, at the price of the first that has one."""
    found: dict[str, Line] = {}
    for line in lines:
        known = found.get(line.dish_id)
        if known is None:
            found[line.dish_id] = line
        else:
            price = line.price if known.price is None else known.price
            found[line.dish_id] = known.model_copy(update={"quantity": known.quantity + line.quantity, "price": price})
    return {dish: line for dish, line in found.items() if line.quantity > 0}


@dataclass(frozen=True, slots=True)
class Known:
    """An order's events, in order, and `said`: the behaviours that others than the one in hand have added."""

    events: list[NeuralEvent]
    said: frozenset[str]


async def keep(documents: Documents, tenant: str, e: NeuralEvent, order_id: str, now: int) -> Known:
    """Keep this event of the order, and return all that is known of it. The order as it is `now` (ms) is kept too:
    what more events made replaces what fewer did. Raises InvalidField for an order of more than MOST_PARTS events."""
    empty = Sale(e.store_id, order_id)
    await documents.upsert(tenant, PARTS, [_part(empty, e, 0, ())])
    found = await _parts(documents, tenant, empty.key, MOST_PARTS + 1)
    if len(found) > MOST_PARTS:
        raise InvalidField("data.order_id", order_id, f"an order of at most {MOST_PARTS} events")
    events = [event_of(d.body) for d in found]
    whole = Document(empty.key, len(events), {**fold(empty, events).body(), "kept_at": now})
    await documents.upsert(tenant, KIND, [whole])
    said = (one for d in found if d.body["event_id"] != e.event_id for one in d.body["said"])
    return Known(events, frozenset(said))


async def tell(documents: Documents, tenant: str, e: NeuralEvent, order_id: str, added: Iterable[Behavior]) -> None:
    """These behaviours are in the log: no other event of the order adds them again, however late it comes."""
    await documents.upsert(tenant, PARTS, [_part(Sale(e.store_id, order_id), e, 1, map(_name, added))])


def _part(order: Sale, e: NeuralEvent, version: int, said: Iterable[str]) -> Document:
    return Document(f"{order.key}-{e.at:015d}-{digest(e.event_id)[:12]}", version, {**e.body(), "said": list(said)})


def _name(b: Behavior) -> str:
    """One that another visitor did is another, although the flows know it by its id alone."""
    return f"{b.event_id}/{b.visitor}"


async def _parts(documents: Documents, tenant: str, key: str, most: int) -> list[Document]:
    return await documents.find(tenant, PARTS, [Where("id", "lte", f"{key}.")], most, after=f"{key}-")


async def forget(documents: Documents, tenant: str, gone: Sequence[Document]) -> None:
    """Take these orders away; their events, of which they could be made again, go first."""
    for order in gone:
        while parts := await _parts(documents, tenant, order.id, MOST_PARTS):
            await documents.upsert(tenant, PARTS, [Document(p.id, p.version, {}, deleted=True) for p in parts])
    await documents.upsert(tenant, KIND, [Document(d.id, d.version, {}, deleted=True) for d in gone])


def behaviors(tenant: str, e: NeuralEvent, order_id: str, known: Known) -> list[Behavior]:
    """What this event adds to what is known of its order: `cart` for each dish that it brings into the order, and once
    the order is paid `purchase` for each dish that was not bought before. None of a cancelled order."""
    events = known.events
    at = next(k for k, one in enumerate(events) if one.event_id == e.event_id)
    before = fold(Sale(e.store_id, order_id), events[:at])
    after = fold(before, events[at : at + 1])
    whole = fold(after, events[at + 1 :])
    if whole.cancelled:
        return []
    bought = before.lines if before.paid_at else {}
    carted = [line for dish, line in after.lines.items() if dish not in before.lines]
    paid = [line for dish, line in whole.lines.items() if whole.paid_at and dish not in bought]
    found = [_behavior(tenant, whole, line, "cart", e.at) for line in carted]
    found += [_behavior(tenant, whole, line, "purchase", whole.paid_at) for line in paid]
    return [b for b in found if _name(b) not in known.said]


def _behavior(tenant: str, sale: Sale, line: Line, type: Literal["cart", "purchase"], at: int) -> Behavior:
    """An order without a customer is a session of its own, so that it says what goes together."""
    return Behavior(
        event_id=f"order-{digest(sale.key, line.dish_id)}-{type}", tenant=tenant, item_id=line.dish_id, type=type,
        occurred_at=at, user_id=sale.customer_id, session_id=None if sale.customer_id else f"order-{sale.key}",
        value=None if line.price is None else line.price * line.quantity,
    )  # fmt: skip
