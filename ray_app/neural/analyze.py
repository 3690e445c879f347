"""What a store sold by dish and hour, and the hours that were unlike the same hour of other weeks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

import numpy as np

from ray_app.catalog.store import Store
from ray_app.neural.batch import in_period
from ray_app.neural.stores import Stores

HOUR_MS = 3_600_000
PAGE = 1000
LEAST_WEEKS = 4  # of one hour of the week, before one of them can be called unlike the others
FAR = 3.5  # robust standard deviations
MOST_SHOWN = 20
SALES = ("tenant", "store_id", "since", "until", "hour", "dish_id", "orders", "quantity", "amount", "analyzed_at")
ANOMALIES = (
    "tenant", "store_id", "since", "until", "hour", "orders", "amount", "median", "spread", "score", "analyzed_at",
)  # fmt: skip


@dataclass(slots=True)
class Sum:
    orders: int = 0
    quantity: float = 0.0
    amount: float = 0.0

    def add(self, quantity: float, amount: float) -> None:
        self.orders += 1
        self.quantity += quantity
        self.amount += amount


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An hour (its beginning, ms) whose sales are far from `median`, the usual ones; `score`: how many `spread`s."""

    hour: int
    orders: int
    amount: float
    median: float
    spread: float
    score: float


@dataclass(slots=True)
class Sales:
    """Sums by (hour, dish), and by hour, of orders that are not cancelled. An order counts where it began; a line
    without a price adds to the quantity alone, unless its order has a total."""

    by_dish: dict[tuple[int, str], Sum] = field(default_factory=lambda: defaultdict(Sum))
    by_hour: dict[int, Sum] = field(default_factory=lambda: defaultdict(Sum))

    def add(self, order: Mapping[str, Any]) -> None:
        if order["cancelled"]:
            return
        hour, lines = order["at"] - order["at"] % HOUR_MS, order["lines"]
        amounts = [line["quantity"] * (line["price"] or 0.0) for line in lines]
        for line, amount in zip(lines, amounts, strict=True):
            self.by_dish[hour, line["dish_id"]].add(line["quantity"], amount)
        total = sum(amounts) if order["total"] is None else order["total"]
        self.by_hour[hour].add(sum(line["quantity"] for line in lines), total)


def anomalies(sales: Mapping[int, Sum], zone: tzinfo) -> list[Anomaly]:
    """Hours whose amount lies more than FAR robust standard deviations from the median of the same hour of the week, in
    the store's time; hours without a sale between the first and the last one count as 0.

    The modified z-score of Iglewicz and Hoaglin (1993): 0.6745 * (x - median) / MAD, and where the MAD is 0
    (x - median) / (1.2533 * mean absolute deviation). An hour of the week is judged from LEAST_WEEKS weeks on.
    """
    if not sales:
        return []
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for hour in range(min(sales), max(sales) + 1, HOUR_MS):
        local = datetime.fromtimestamp(hour / 1000, zone)
        alike[local.weekday(), local.hour].append(hour)
    found = [one for hours in alike.values() if len(hours) >= LEAST_WEEKS for one in _far(hours, sales)]
    return sorted(found, key=lambda a: -abs(a.score))


def _far(hours: list[int], sales: Mapping[int, Sum]) -> Iterable[Anomaly]:
    amounts = np.array([sales[h].amount if h in sales else 0.0 for h in hours])
    median = float(np.median(amounts))
    away = np.abs(amounts - median)
    spread = float(np.median(away)) / 0.6745 or 1.2533 * float(away.mean())
    if spread > 0:
        for k in np.flatnonzero(away > FAR * spread).tolist():
            orders = sales[hours[k]].orders if hours[k] in sales else 0
            score = (float(amounts[k]) - median) / spread
            yield Anomaly(hours[k], orders, float(amounts[k]), median, spread, score)


async def analyze(stores: Stores, store: Store, since: int, until: int) -> dict[str, Any]:
    """Read the store's orders of a period (ms; `until` excluded), write sums and anomalies to ClickHouse, and say what
    they come to. Done again it replaces what it wrote."""
    sales, after, orders = Sales(), "", 0
    while page := await in_period(stores, store.tenant, store.id, (since, until), PAGE, after):
        for d in page:
            sales.add(d.body)
        after, orders = page[-1].id, orders + len(page)
    unlike = anomalies(sales.by_hour, store.zone)
    key, now = (store.tenant, store.id, since, until), stores.clock.now()
    lines = [(*key, h, dish, s.orders, s.quantity, s.amount, now) for (h, dish), s in sorted(sales.by_dish.items())]
    await stores.olap.insert("store_sales", SALES, lines)
    far = [(*key, a.hour, a.orders, a.amount, a.median, a.spread, a.score, now) for a in unlike]
    await stores.olap.insert("store_anomalies", ANOMALIES, far)
    return {"store_id": store.id, "from": since, "to": until, "orders": orders, **_summary(sales, unlike, store.zone)}


def _summary(sales: Sales, unlike: list[Anomaly], zone: tzinfo) -> dict[str, Any]:
    dishes: dict[str, Sum] = defaultdict(Sum)
    for (_, dish), s in sales.by_dish.items():
        dishes[dish].quantity += s.quantity
        dishes[dish].amount += s.amount
    best = sorted(dishes.items(), key=lambda x: (-x[1].amount, -x[1].quantity, x[0]))[:MOST_SHOWN]
    hours: dict[int, float] = defaultdict(float)
    for hour, s in sales.by_hour.items():
        hours[datetime.fromtimestamp(hour / 1000, zone).hour] += s.amount
    return {
        "amount": sum(s.amount for s in sales.by_hour.values()),
        "dishes": len(dishes),
        "best": [{"dish_id": dish, "quantity": s.quantity, "amount": s.amount} for dish, s in best],
        "by_hour_of_day": {str(h): hours[h] for h in sorted(hours)},
        "anomalies": len(unlike),
        "furthest": [
            {"hour": a.hour, "amount": a.amount, "median": a.median, "score": a.score} for a in unlike[:MOST_SHOWN]
        ],
    }
