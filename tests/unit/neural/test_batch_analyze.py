"""Orders into the vector database in chunks, and what a store sold."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from ray_app.catalog.store import Store
from ray_app.errors import InvalidField
from ray_app.neural import batch
from ray_app.neural.analyze import HOUR_MS, Sales, Sum, anomalies
from ray_app.neural.batch import CHUNK
from ray_app.neural.process import process
from ray_app.neural.tasks import (
    Indexing,
    Orders,
    Period,
    analyze_store,
    batch_index_orders,
    index_to_vector_db,
)  # fmt: skip
from tests.unit.make import NOW, TENANT
from tests.unit.neural.conftest import STORE, Here, World, event

WEEK_MS = 7 * 24 * HOUR_MS


def order(k: int) -> dict[str, Any]:
    return {"order_id": f"o{k}", "dish": f"number{k}"}


async def found(world: World, text: str, n: int = 1) -> list[str]:
    into = batch.collection(world.documents, world.vectors, TENANT, "orders")
    return [f.document.id for f in await into.search(text, n)]


async def test_a_document_is_indexed_once_under_its_id(world: World) -> None:
    for text in ("red kettle", "blue lantern"):
        ask = Indexing(collection_name="orders", data={"order_id": 5, "text": text})
        assert await index_to_vector_db(ask, Here(world)) == {"collection_name": "orders", "id": "5"}  # type: ignore[arg-type]
    into = batch.collection(world.documents, world.vectors, TENANT, "orders")
    (one,) = await into.search("lantern", 5)
    assert one.document.body["data"]["text"] == "blue lantern"
    bare = Indexing(collection_name="orders", data={"text": "no id"})
    ids = {(await index_to_vector_db(bare, Here(world)))["id"] for _ in range(2)}  # type: ignore[arg-type]
    assert len(ids) == 1


async def test_no_name_of_a_collection_is_that_of_anothers_heads(world: World) -> None:
    for name in ("orders", "orders_heads", "heads_orders"):
        await batch.put(world, TENANT, name, {"id": "1", "text": f"kettle of {name}"})  # type: ignore[arg-type]
    for name in ("orders", "orders_heads", "heads_orders"):
        into = batch.collection(world.documents, world.vectors, TENANT, name)
        for hits in (await into.newest(5), await into.search("kettle", 5)):
            assert [f.document.body["data"]["text"] for f in hits] == [f"kettle of {name}"]


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "ключ"])
async def test_a_collection_has_a_plain_name(world: World, name: str) -> None:
    with pytest.raises(InvalidField) as e:
        await index_to_vector_db(Indexing(collection_name=name, data={"id": "1"}), Here(world))  # type: ignore[arg-type]
    assert e.value.field == "collection_name"


async def test_orders_are_indexed_in_chunks_and_bad_ones_are_named(world: World) -> None:
    given: list[Any] = [order(k) for k in range(CHUNK + 10)]
    given[3], given[CHUNK + 1] = "no order", {}
    run = Here(world)
    answer = await batch_index_orders(Orders(orders=given), run)  # type: ignore[arg-type]
    assert answer["indexed"] == CHUNK + 8
    assert [f["index"] for f in answer["failed"]] == [3, CHUNK + 1]
    assert run.told == [(CHUNK, CHUNK + 10), (CHUNK + 10, CHUNK + 10)]
    assert await found(world, f"number{CHUNK + 5}") == [f"o{CHUNK + 5}"]


async def test_a_run_that_was_cut_off_goes_on_where_it_was(world: World) -> None:
    class Ends(Here):
        async def progress(self, done: int, total: int = 0, note: str = "") -> None:
            raise RuntimeError("the process ends here")

    asked = Orders(orders=[order(k) for k in range(CHUNK + 1)])
    with pytest.raises(RuntimeError):
        await batch_index_orders(asked, Ends(world))  # type: ignore[arg-type]
    run = Here(world)
    answer = await batch_index_orders(asked, run)  # type: ignore[arg-type]
    assert answer == {"indexed": CHUNK + 1, "failed": []}
    assert run.told == [(CHUNK + 1, CHUNK + 1)]
    assert await world.documents.count(TENANT, "collection_orders") == CHUNK + 1


async def sold(world: World, order_id: str, at: int, price: float, **more: Any) -> None:
    lines = [{"dish_id": "soup", "quantity": 2, "price": price}, {"dish_id": "tea"}]
    e = event("order.created", {"order_id": order_id, "lines": lines, **more}, order_id, at)

    async def mine() -> None:
        """It is."""

    await process(world, TENANT, e, mine)


async def test_a_period_of_a_store_is_indexed(world: World) -> None:
    for k in range(3):
        await sold(world, f"o{k}", NOW - k * 1000, 1.0)
    ask = Orders.model_validate({"store_id": STORE, "from": NOW - 1000, "to": NOW + 1})
    for _ in range(2):
        assert await batch_index_orders(ask, Here(world)) == {"indexed": 2, "failed": []}  # type: ignore[arg-type]
    assert await world.documents.count(TENANT, "collection_orders") == 2


@pytest.mark.parametrize("asked", [{}, {"store_id": "s"}, {"orders": [], "store_id": "s"}, {"from": 1, "to": 2}])
def test_orders_or_a_period_are_asked_for(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="orders, or store_id with from and to"):
        Orders.model_validate(asked)


async def test_a_store_is_analysed(analytic: World) -> None:
    hour = NOW - NOW % HOUR_MS - 5 * HOUR_MS
    await sold(analytic, "a", hour, 3.0)
    await sold(analytic, "b", hour + 1, 4.0)
    await sold(analytic, "c", hour + HOUR_MS, 5.0, total=20.0)
    await sold(analytic, "d", hour + HOUR_MS, 5.0, status="cancelled")
    ask = Period.model_validate({"store_id": STORE, "from": hour, "to": hour + 2 * HOUR_MS})
    for _ in range(2):  # done again it replaces itself
        answer = await analyze_store(ask, Here(analytic))  # type: ignore[arg-type]
        analytic.clock.pass_s(1)
    assert (answer["orders"], answer["amount"], answer["dishes"], answer["anomalies"]) == (4, 34.0, 2, 0)
    assert answer["best"][0] == {"dish_id": "soup", "quantity": 6.0, "amount": 24.0}
    sql = """SELECT hour, dish_id, orders, quantity, amount FROM store_sales FINAL
             WHERE tenant = {t:String} AND store_id = {s:String} ORDER BY hour, dish_id"""
    rows = await analytic.olap.query(sql, {"t": TENANT, "s": STORE})
    assert [tuple(r.values()) for r in rows] == [
        (hour, "soup", 2, 4.0, 14.0), (hour, "tea", 2, 2.0, 0.0),
        (hour + HOUR_MS, "soup", 1, 2.0, 10.0), (hour + HOUR_MS, "tea", 1, 1.0, 0.0),
    ]  # fmt: skip


def test_hours_unlike_the_same_hour_of_other_weeks_are_found() -> None:
    monday = 1_772_438_400_000  # 2026-03-02 08:00 UTC
    usual = [100.0, 104.0, 98.0, 101.0, 97.0, 103.0, 99.0, 102.0]
    sales = {monday + k * WEEK_MS: Sum(10, 0, a) for k, a in enumerate(usual)}
    assert anomalies(sales, ZoneInfo("UTC")) == []
    sales[monday + 3 * WEEK_MS].amount = 400.0
    del sales[monday + 5 * WEEK_MS]  # a week in which the shop stayed closed
    high, low = anomalies(sales, ZoneInfo("UTC"))
    assert (high.hour, high.amount, low.hour, low.amount) == (
        monday + 3 * WEEK_MS, 400.0, monday + 5 * WEEK_MS, 0.0,
    )  # fmt: skip
    assert high.score > 3.5
    assert low.score < -3.5


def test_too_few_weeks_are_no_rule_and_an_hour_is_that_of_the_store() -> None:
    before = 1_774_684_800_000  # 2026-03-28 08:00 UTC, the day before Berlin changes its clocks
    short = {before + k * WEEK_MS: Sum(1, 0, a) for k, a in enumerate((1.0, 1.0, 900.0))}
    assert anomalies(short, ZoneInfo("UTC")) == []
    nine = {before: 100.0, **{before + k * WEEK_MS - HOUR_MS: 100.0 for k in range(1, 8)}}  # always at 9 in Berlin
    sales = {h: Sum(1, 0, a) for h, a in nine.items()}
    assert anomalies(sales, ZoneInfo("Europe/Berlin")) == []
    assert anomalies(sales, ZoneInfo("UTC")) != []


def test_a_store_knows_its_zone() -> None:
    assert Store("s", "t", timezone="Europe/Berlin").zone == ZoneInfo("Europe/Berlin")


@pytest.mark.long
def test_the_hour_of_the_largest_real_order_is_the_furthest() -> None:
    """The shipped orders: one of 80,995 pieces for 168,469.60 in the morning of 2011-12-09."""
    sales, sums = Sales(), defaultdict[tuple[str, str], list[dict[str, str]]](list)
    with gzip.open(Path(__file__).parents[3] / "examples" / "retail" / "orders.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            sums[row["InvoiceNo"], row["InvoiceDate"]].append(row)
    for (_, date), rows in sums.items():
        at = int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp() * 1000)
        lines = [
            {"dish_id": r["StockCode"], "quantity": int(r["Quantity"]), "price": float(r["UnitPrice"])} for r in rows
        ]
        sales.add({"at": at, "lines": lines, "cancelled": False, "total": None})
    first, *others = anomalies(sales.by_hour, ZoneInfo("UTC"))
    assert datetime.fromtimestamp(first.hour / 1000, UTC).isoformat() == "2011-12-09T09:00:00+00:00"
    assert first.amount > 168_469.60
    assert len(others) < 0.1 * len(sales.by_hour)
