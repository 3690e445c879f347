"""What other systems write to the log arrives, and what visitors do is counted as it happens."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ray_app.events.base import Entry
from tests.story.shop import Shop, within

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def append(shop: Shop, topic: str, *raw: dict[str, Any]) -> None:
    await shop.world.log.append(topic, [Entry(shop.tenant, orjson.dumps(r)) for r in raw])


async def found(shop: Shop, id: str) -> dict[str, Any] | None:
    answer = await shop.http.get(f"/api/v1/items/{id}")
    return answer.json() if answer.status_code == 200 else None


async def test_an_item_of_an_old_producer_is_kept_and_recommended(new_shop: Shop) -> None:
    created = {"eventType": "ITEM_CREATED", "tenantId": new_shop.tenant,
               "data": {"itemId": "v1", "title": "How to plant", "categoryName": "garden"}}  # fmt: skip
    await append(new_shop, "vlog-items", created)

    async def arrived() -> bool:
        answer = await new_shop.recommend(n=200)
        return "v1" in answer.ids

    await within(10, arrived)
    one = await found(new_shop, "v1")
    assert one is not None
    assert (one["type"], one["category"]) == ("vlog", "garden")


@pytest.mark.long
async def test_a_tenants_own_topic_is_found_while_all_runs(new_shop: Shop) -> None:
    topic = f"item-events-{new_shop.tenant}"
    await append(new_shop, topic, {"event_type": "create", "data": {"item_id": "own", "title": "Own"}})
    await within(15, lambda: found(new_shop, "own"))
    await append(new_shop, topic, {"event_type": "update", "data": {"item_id": "own", "price": 3}})

    async def priced() -> bool:
        one = await found(new_shop, "own")
        return one is not None and one["title"] == "Own" and one["price"] == 3.0

    await within(10, priced)


async def test_a_click_is_counted_for_the_scenario_that_showed_the_item(new_shop: Shop) -> None:
    answer = await new_shop.recommend(user="u", n=4)
    of = {"request_id": answer.body["request_id"]}
    shown = [new_shop.event("u", i, "impression", **of) for i in answer.ids]
    await new_shop.behave(*shown, new_shop.event("u", answer.ids[0], **of))

    async def figures(**query: str) -> dict[str, Any]:
        got = await new_shop.http.get("/api/v1/analytics/realtime", params={"window": "1d", "n": 1, **query})
        assert got.status_code == 200, got.text
        one: dict[str, Any] = got.json()["windows"][0]
        return one

    async def counted() -> bool:
        return bool((await figures(scenario="home"))["clicks"] == 1)

    await within(10, counted)
    one = await figures(scenario="home")
    assert (one["impressions"], one["ctr"], one["users"], one["conversions"]) == (4, 0.25, 1, 0)
    assert (await figures())["clicks"] == 1
    assert (await figures(scenario="related"))["clicks"] == 0


@pytest.mark.parametrize("query", [{"window": "5m"}, {"n": "0"}, {"n": "1441"}, {"scenario": ""}, {"colour": "red"}])
async def test_figures_that_cannot_be_are_refused(new_shop: Shop, query: dict[str, str]) -> None:
    answer = await new_shop.http.get("/api/v1/analytics/realtime", params=query)
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_FIELD")
