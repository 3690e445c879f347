"""One store of a federation: it reads its own orders, learns of them, and gives away weights and sums alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ray_app.stores.base import Where
from ray_app.training.federated.average import Update
from ray_app.training.federated.demand import (
    HELD,
    WEEK_MS,
    Floats,
    Sales,
    judged,
    known,
    learned,
    plain,
    sales,
    wape,
)  # fmt: skip
from ray_app.training.federated.network import Steps, fit, forecast
from ray_app.training.federated.rounds import Judged

if TYPE_CHECKING:
    from ray_app.stores.base import Documents

ORDERS, STORES, SYSTEM = "orders", "stores", "system"
PAGE, WEEKS = 1000, 2 * 52 + HELD
Read = Callable[[], Awaitable[Sales]]


class Shop:
    """`read`: the store's sales; called once, at the first question, in the process that answers it."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._held: Sales | None = None

    def update(self, weights: Floats, steps: Steps) -> Update:
        """What this store makes of `weights`; as they were, of 0 rows, where it has too little to learn of."""
        rows = learned(self._sales())
        if not len(rows):
            return Update(weights, 0, 0.0)
        fitted, loss = fit(weights, rows, steps)
        return Update(fitted, len(rows), loss)

    def judge(self, weights: Floats | None) -> Judged:
        """As Shops.judge."""
        rows = judged(self._sales())
        return Judged(
            len(rows), wape(plain(rows.known) if weights is None else forecast(weights, rows.known), rows.sold)
        )

    def _sales(self) -> Sales:
        if self._held is None:
            self._held = asyncio.run(_awaited(self._read))
        return self._held


async def _awaited(read: Read) -> Sales:
    return await read()


class Near:
    """Shops of this process, one after another; training/federated/distributed.py has each in a process of its own."""

    def __init__(self, shops: Mapping[str, Shop]) -> None:
        self._shops = shops

    @property
    def names(self) -> Sequence[str]:
        return list(self._shops)

    def update(self, who: Sequence[str], weights: Floats, steps: Steps, wait_s: float) -> Mapping[str, Update]:
        return {name: self._shops[name].update(weights, steps) for name in who}

    def judge(self, who: Sequence[str], weights: Floats | None, wait_s: float) -> Mapping[str, Judged]:
        return {name: self._shops[name].judge(weights) for name in who}


async def names(documents: Documents, tenant: str) -> list[str]:
    """The ids of a tenant's stores; nothing of what they sold is read."""
    found = await documents.find(SYSTEM, STORES, [Where("tenant", "eq", tenant)], 10_000)
    return [d.id for d in found]


async def sold(documents: Documents, tenant: str, store_id: str, until: int) -> Sales:
    """By the store's orders of the last WEEKS weeks before `until` (ms), without the cancelled ones."""
    since = until - WEEKS * WEEK_MS
    where = [Where("store_id", "eq", store_id), Where("at", "gte", since), Where("at", "lte", until - 1)]
    dishes, at, quantities, after = list[str](), list[int](), list[float](), ""
    while page := await documents.find(tenant, ORDERS, where, PAGE, after):
        for order in (d.body for d in page if not d.body.get("cancelled")):
            for line in order["lines"]:
                dishes.append(str(line["dish_id"]))
                at.append(int(order["at"]))
                quantities.append(float(line["quantity"]))
        after = page[-1].id
    return sales(dishes, at, quantities, until)


def next_week(of: Sales, weights: Floats) -> dict[str, float]:
    """The forecast of each dish for the week after the last."""
    return dict(zip(of.dishes, forecast(weights, known(of, of.sold.shape[1])).tolist(), strict=True))
