"""What stores report, through the public API: orders change profiles and counts, dishes can be recommended, and what is
sold out is gone from the answers of every replica."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from ray_app import wiring
from ray_app.config import Settings
from ray_app.events.base import Entry
from ray_app.neural.event import task_id
from ray_app.serving.http import build
from ray_app.tasks.pools import ALL
from ray_app.tasks.task import State, Submission
from ray_app.types import Behavior
from ray_app.wiring.guard import worker
from tests.story.shop import Shop, items, within

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.long]
ORDERS = Path(__file__).parents[2] / "examples" / "retail" / "orders.csv.gz"
INVOICES = 60
ALL_ITEMS = {i["item_id"] for i in items()}
_numbers = count()


@dataclass
class Floor:
    """A shop whose store reports; `beside` is another replica's door, `store` its own id."""

    shop: Shop
    beside: Shop
    store: str

    def event(self, type: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        one = {"event_id": f"n{next(_numbers)}", "event_type": type, "event_source": "pos_system"}
        return {**one, "store_id": self.store, "data": data, **more}

    async def send(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        """The results of their tasks."""
        answer = await self.shop.post("neural-events", {"events": list(events)})
        assert answer["accepted"] == len(events)
        return [await self.result(id) for id in answer["tasks"]]

    async def report(self, type: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = await self.shop.post("neural-events", self.event(type, data, **more))
        return await self.result(answer["tasks"][0])

    async def result(self, id: str) -> dict[str, Any]:
        queue = self.shop.world.queue

        async def there() -> bool:
            return id in await queue.get_many([id])

        await within(20, there)
        done = await queue.wait(id, 30)
        assert done.state is State.SUCCESS, done
        found: dict[str, Any] = done.result
        return found

    async def get(self, path: str, status: int = 200, **query: Any) -> dict[str, Any]:
        answer = await self.shop.http.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def everywhere(self, what: Callable[[Shop], Any]) -> None:
        """Soon true of both replicas."""
        for one in (self.shop, self.beside):
            await within(5.0, lambda one=one: what(one))  # type: ignore[misc]


@pytest.fixture(scope="session")
async def second(settings: Settings) -> AsyncIterator[Callable[[Shop], Shop]]:
    """Another replica of the gateway, and a guard with slots that do the tasks."""
    hands, app = worker(settings, ALL), await wiring.open_app(settings)
    hands.start()
    clients = []

    def beside(shop: Shop) -> Shop:
        transport = httpx.ASGITransport(build(lambda: app))
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://lemo", headers=shop.http.headers))
        return Shop(shop.tenant, clients[-1], app, shop.world)

    yield beside
    for one in clients:
        await one.aclose()
    hands.stop()
    await app.close()


@pytest_asyncio.fixture(loop_scope="session")
async def floor(new_shop: Shop, second: Callable[[Shop], Shop]) -> Floor:
    store = f"store-of-{new_shop.tenant}"
    made = await new_shop.http.put(f"/api/v1/stores/{store}", json={"title": "Corner"})
    assert made.status_code == 200, made.text
    beside = second(new_shop)
    assert set((await beside.recommend(n=100)).ids) == ALL_ITEMS
    return Floor(new_shop, beside, store)


def lines(*dishes: str) -> list[dict[str, Any]]:
    return [{"dish_id": d, "quantity": 2, "price": 3.5} for d in dishes]


async def test_an_order_changes_the_profile_and_a_payment_the_counts(floor: Floor) -> None:
    await floor.report("order.created", {"order_id": "1", "customer_id": "hugo", "lines": lines("tea-1", "bath-2")})

    async def known() -> bool:
        profile = await floor.shop.http.get("/api/v1/users/hugo/profile")
        return {r["item_id"] for r in profile.json().get("recent", ())} == {"tea-1", "bath-2"}

    await floor.everywhere(lambda shop: known())
    bought: dict[str, Any] = await floor.report("payment.completed", {"order_id": "1", "amount": 14})
    assert bought["effects"] == [{"effect": "behaviors", "order_id": "1", "cart": 0, "purchase": 2}]

    async def counted() -> bool:
        windows = (await floor.get("analytics/realtime", window="1d", n=1))["windows"]
        hot = (await floor.get("popular", n=2))["items"]
        return windows[-1]["conversions"] == 2 and {i["item_id"] for i in hot} == {"tea-1", "bath-2"}

    await within(10.0, counted)
    assert not {"tea-1", "bath-2"} & set((await floor.shop.recommend("hugo", n=20)).ids)


async def test_the_same_event_again_has_no_second_effect(floor: Floor) -> None:
    paid = {"order_id": "2", "customer_id": "ida", "lines": lines("toys-3"), "status": "paid"}
    event = floor.event("order.created", paid)
    for _ in range(2):
        await floor.send(event, event)
    (direct,) = await floor.shop.world.queue.submit(_again(floor, event))
    assert (await floor.result(direct))["duplicate"]
    redis, prefix = floor.shop.world.redis, floor.shop.app.prefixes.of("profile")

    async def once() -> bool:
        return bool(await redis.hgetall(f"{prefix}:profile:{floor.shop.tenant}:u:ida:purchases") == {b"toys-3": b"1"})

    await within(10.0, once)
    sql = "SELECT type, count() AS n FROM behaviors WHERE tenant = {t:String} GROUP BY type ORDER BY type"

    async def in_the_table() -> bool:
        rows = await floor.shop.world.olap.query(sql, {"t": floor.shop.tenant})
        return [(r["type"], r["n"]) for r in rows] == [("cart", 1), ("purchase", 1)]

    await within(10.0, in_the_table)


def _again(floor: Floor, asked: dict[str, Any]) -> Submission:
    """As an old producer sends it, by the task's old name and under no id."""
    return Submission("src.core.celery_tasks.process_neural_event", asked, floor.shop.tenant)


async def test_a_dish_can_be_recommended(floor: Floor) -> None:
    await floor.report("dish.updated", {"dish_id": "soup", "name": "kettle of soup", "category": "tea", "price": 4})

    async def there(shop: Shop) -> bool:
        wanted = [{"field": "item_id", "op": "eq", "value": "soup"}]
        return (await shop.recommend("anybody", filters=wanted)).ids == ["soup"]

    await floor.everywhere(there)
    await floor.report("dish.updated", {"dish_id": "soup", "price": 5, "available": False})

    async def gone(shop: Shop) -> bool:
        return "soup" not in (await shop.recommend(n=100)).ids

    await floor.everywhere(gone)
    await floor.report("dish.updated", {"dish_id": "soup", "available": True})
    await floor.everywhere(there)
    found = await floor.get("items/soup")
    assert (found["title"], found["category"], found["price"]) == ("kettle of soup", "tea", 5)


async def test_what_is_sold_out_is_gone_from_every_replica_until_it_is_back(floor: Floor) -> None:
    """Also from what was made beforehand: the popular lists and the visitor's own."""
    shop = floor.shop
    ago = shop.app.clock.now() - 3_600_000
    bought = [Behavior(f"l{k}", shop.tenant, "light-4", "purchase", ago, user_id=f"v{k}") for k in range(5)]
    await shop.remember(bought)
    await shop.job("precompute")
    await floor.everywhere(lambda one: _shows(one, "light-4"))
    await within(5.0, lambda: _made_before(floor))
    await floor.report("inventory.alert", {"dish_id": "light-4", "quantity": 0, "sold_out": True})

    async def gone(one: Shop) -> bool:
        popular = (await one.http.get("/api/v1/popular", params={"n": 200})).json()["items"]
        listed = {i["item_id"] for i in popular} | set((await one.recommend("v1", n=100)).ids)
        return "light-4" not in listed | set((await one.recommend(scenario="buy_again", user="v1", n=60)).ids)

    await floor.everywhere(gone)
    await shop.write([next(i for i in items() if i["item_id"] == "light-4") | {"price": 9.0}])
    assert await gone(shop)  # a write of the item does not bring it back
    assert (await floor.get("items/light-4"))["status"] == "unavailable"
    await floor.report("inventory.alert", {"dish_id": "light-4", "quantity": 12, "sold_out": False})
    await floor.everywhere(lambda one: _shows(one, "light-4"))
    await floor.report("inventory.alert", {"dish_id": "light-4", "quantity": 0})
    await floor.everywhere(gone)
    await floor.report("dish.updated", {"dish_id": "light-4", "available": True})
    await floor.everywhere(lambda one: _shows(one, "light-4"))


async def _made_before(floor: Floor) -> bool:
    popular = await floor.get("popular", n=1)
    return popular["source"] == "precomputed" and popular["items"] == [{"item_id": "light-4"}]


async def _shows(one: Shop, item: str) -> bool:
    return item in (await one.recommend(n=100)).ids


async def test_events_are_kept_and_found(floor: Floor) -> None:
    await floor.send(
        floor.event("staff.scheduled", {"staff_id": "kim", "role": "barista"}, event_id="s1"),
        floor.event("weather.changed", {"text": "rain over the terrace"}, event_id="w1", event_source="sensor"),
        floor.event("staff.scheduled", {"staff_id": "lee", "role": "cook"}, event_id="s2", priority=1),
    )
    found = await floor.get("neural-events/search", q="barista kim", n=1)
    assert found["events"][0]["event_id"] == "s1"
    assert found["events"][0]["score"] > 0.1
    cooks = await floor.get("neural-events/search", q="terrace", type="staff.scheduled", store=floor.store)
    assert {e["event_id"] for e in cooks["events"]} == {"s1", "s2"}
    assert [e["event_id"] for e in (await floor.get("neural-events/search", source="sensor"))["events"]] == ["w1"]
    at = found["events"][0]["occurred_at"]
    assert (await floor.get("neural-events/search", **{"to": at}))["events"] == []
    one = await floor.get("neural-events/w1")
    assert (one["data"], one["effects"]) == ({"text": "rain over the terrace"}, [])
    assert (await floor.get("neural-events/none", status=404))["reason"] == "NOT_FOUND"
    low = await floor.shop.world.queue.get(task_id(floor.shop.tenant, "s2"))
    assert low.queue == "low_priority"


async def test_what_cannot_be_taken_is_named(floor: Floor, open_shop: Callable[[], Any]) -> None:
    good = floor.event("staff.scheduled", {})
    bad = [floor.event("order.created", {"lines": []}), {**good, "store_id": "nowhere"}]
    answer = await floor.shop.post("neural-events", {"events": [good, *bad]})
    assert [(r["index"], r["metadata"]["field"]) for r in answer["rejected"]] == [(1, "data.order_id"), (2, "store_id")]
    other = await open_shop()
    refused = await other.post("neural-events", good, status=400)
    assert refused["reason"] == "ALL_REJECTED"
    taken = await other.http.put(f"/api/v1/stores/{floor.store}", json={})
    assert (taken.status_code, taken.json()["reason"]) == (403, "FORBIDDEN")
    assert (await other.http.get(f"/api/v1/stores/{floor.store}")).status_code == 404
    assert (await other.http.get("/api/v1/stores")).json() == {"stores": []}
    assert [s["store_id"] for s in (await floor.get("stores"))["stores"]] == [floor.store]


async def test_an_event_of_the_topic_comes_to_its_stores_tenant(floor: Floor) -> None:
    world = floor.shop.world
    one = floor.event("order.created", {"order_id": "k", "customer_id": 5, "lines": lines("tea-9")})
    bodies = [orjson.dumps(one), orjson.dumps({**one, "store_id": "nobodys"}), b"no json"]
    await world.log.append(world.settings.events.neural_topic, [Entry(floor.store, b) for b in bodies])
    assert (await floor.result(task_id(floor.shop.tenant, one["event_id"])))["effects"][0]["cart"] == 1

    async def buried() -> bool:
        found = [x async for x in floor.shop.app.letters.read(world.settings.events.neural_topic)]
        return len(found) == 2 and any("nobodys" in x.why for x in found)

    await within(10.0, buried)


async def test_real_orders_become_what_a_recount_of_the_file_says(floor: Floor) -> None:
    """The first invoices of the shipped orders, each an order and its payment, in bulk; then indexed and analysed."""
    orders = invoices()
    sent = [e for number, rows in orders.items() for e in events_of(floor, number, rows)]
    await floor.send(*sent)
    wanted = Counter((row["CustomerID"], row["StockCode"]) for rows in orders.values() for row in distinct(rows))
    sql = """SELECT user_id, item_id, type, count() AS n FROM behaviors FINAL
             WHERE tenant = {t:String} GROUP BY user_id, item_id, type"""

    async def all_there() -> bool:
        rows = await floor.shop.world.olap.query(sql, {"t": floor.shop.tenant})
        types = {(r["user_id"], r["item_id"], r["type"]): r["n"] for r in rows}
        return all(types.get((*who, type)) == n for who, n in wanted.items() for type in ("cart", "purchase"))

    await within(30.0, all_there)
    times = [at(rows[0]) for rows in orders.values()]
    period = {"store_id": floor.store, "from": min(times), "to": max(times) + 1}
    summary = await task(floor, "analyze_store", period)
    amounts = [float(r["Quantity"]) * float(r["UnitPrice"]) for rows in orders.values() for r in rows]
    assert (summary["orders"], summary["dishes"]) == (INVOICES, len({item for _, item in wanted}))
    assert summary["amount"] == pytest.approx(sum(amounts), rel=0.02)  # a line's second price is not looked at
    assert await task(floor, "batch_index_orders", period) == {"indexed": INVOICES, "failed": []}
    number, rows = next(iter(orders.items()))
    found = await floor.get("collections/orders/search", q=f"order_id {number} {rows[0]['StockCode']}", n=5)
    assert number in {d["data"]["order_id"] for d in found["documents"]}


async def task(floor: Floor, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    (id,) = await floor.shop.world.queue.submit(Submission(name, asked, floor.shop.tenant))
    return await floor.result(id)


def invoices() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with gzip.open(ORDERS, "rt") as file:
        for row in csv.DictReader(file):
            if row["InvoiceNo"] not in found and len(found) == INVOICES:
                return found
            found.setdefault(row["InvoiceNo"], []).append(row)
    return found


def distinct(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return list({r["StockCode"]: r for r in rows}.values())


def at(row: dict[str, str]) -> int:
    return int(datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=UTC).timestamp() * 1000)


def events_of(floor: Floor, number: str, rows: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    dishes = [{"dish_id": r["StockCode"], "quantity": int(r["Quantity"]), "price": float(r["UnitPrice"])} for r in rows]
    data = {"order_id": number, "customer_id": int(rows[0]["CustomerID"]), "lines": dishes}
    return [
        floor.event("order.created", data, event_id=f"c{number}", occurred_at=at(rows[0])),
        floor.event("payment.completed", {"order_id": number}, event_id=f"p{number}", occurred_at=at(rows[0])),
    ]
