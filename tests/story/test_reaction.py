"""Events in, and the recommendation changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_app.catalog.scenario import Pin
from tests.story.shop import PATIENT, Shop, items, shelf_of, within

pytestmark = pytest.mark.asyncio(loop_scope="session")
ALL = {i["item_id"] for i in items()}


async def test_a_click_changes_the_next_answer(shop: Shop) -> None:
    before = await shop.recommend("anna")
    shelf = min(set(map(shelf_of, ALL)), key=before.shelves.count)
    item = next(i for i in sorted(ALL) if shelf_of(i) == shelf and i not in before.ids)
    await shop.behave(shop.event("anna", item), wait=False)

    async def reacted() -> bool:
        after = await shop.recommend("anna")
        return item not in after.ids and after.shelves.count(shelf) > before.shelves.count(shelf)

    await within(1.0, reacted)
    assert (await shop.recommend("somebody else")).ids == (await shop.recommend("nobody")).ids


async def test_a_session_is_recommended_to_like_a_user(shop: Shop) -> None:
    one = {**shop.event("x", "tea-3"), "session_id": "s1"}
    del one["user_id"]
    await shop.behave(one)
    answer = await shop.recommend(session_id="s1")
    assert answer.shelves[0] == "tea"
    assert "tea-3" not in answer.ids
    assert answer.body["items"][0]["channels"]


async def test_a_new_item_is_recommendable(shop: Shop) -> None:
    await shop.behave(shop.event("berta", "light-1", "purchase"))
    new = {"item_id": "light-new", "title": "lamp candle lantern bulb", "category": "light"}
    await shop.write([new], wait=False)

    async def there() -> bool:
        return "light-new" in (await shop.recommend("berta", n=20)).ids

    await within(5.0, there)
    related = await shop.recommend(scenario="related", context_item_id="light-new", n=5)
    assert related.shelves.count("light") == 3  # as many as one category may fill


async def test_a_later_write_without_a_date_does_not_make_an_item_new(shop: Shop) -> None:
    old = items()[3]
    await shop.write([{k: v for k, v in old.items() if k != "published_at"} | {"price": 7.5}])
    kept = (await shop.http.get(f"/api/v1/items/{old['item_id']}")).json()
    assert (kept["published_at"], kept["price"]) == (old["published_at"], 7.5)


async def test_an_item_taken_away_or_sold_out_is_shown_no_more(new_shop: Shop) -> None:
    assert set((await new_shop.recommend(n=100)).ids) == ALL
    sold_out = {**items()[0], "status": "unavailable"}
    await new_shop.write([sold_out])
    answer = await new_shop.http.delete("/api/v1/items/tea-1", params={"wait": "true"})
    assert answer.status_code == 200
    assert set((await new_shop.recommend(n=100)).ids) == ALL - {"tea-0", "tea-1"}
    assert (await new_shop.http.get("/api/v1/items/tea-1")).status_code == 404


async def test_what_is_bought_often_is_hot_for_everybody(new_shop: Shop) -> None:
    await new_shop.recommend()
    bought = [new_shop.event(f"d{k}", "paper-7", "purchase") for k in range(5)]
    await new_shop.behave(*bought, new_shop.event("d9", "bath-2"))

    async def first_two() -> bool:
        return (await new_shop.recommend("nobody")).ids[:2] == ["paper-7", "bath-2"]

    await within(5.0, first_two)


async def test_never_empty_while_something_is_eligible(new_shop: Shop) -> None:
    seen = [new_shop.event("emil", i) for i in sorted(ALL)]
    await new_shop.behave(*seen)
    answer = await new_shop.recommend("emil")
    assert len(answer.ids) == len(set(answer.ids)) == 10
    assert any("seen" in d["reason"] for d in answer.body["degraded"])
    rare = await new_shop.recommend("emil", filters=[{"field": "item_id", "op": "in", "value": ["toys-4", "none"]}])
    assert rare.ids == ["toys-4"]
    none = await new_shop.recommend("emil", filters=[{"field": "category", "op": "eq", "value": "cars"}])
    assert none.ids == []


async def test_an_unknown_user_or_context_item_is_no_error(shop: Shop) -> None:
    for scenario in ("home", "related", "buy_again"):
        for who in ({}, {"user_id": "never seen"}, {"session_id": "never seen"}):
            answer = await shop.recommend(scenario=scenario, context_item_id="no such item", **who)
            assert len(answer.ids) == 10
            assert answer.body["degraded"] == []


async def test_an_unknown_scenario_names_the_known_ones(shop: Shop) -> None:
    answer = await shop.post("recommend", {"scenario": "hom"}, status=404)
    assert answer["reason"] == "UNKNOWN_SCENARIO"
    assert answer["metadata"] == {"field": "scenario", "value": "hom", "allowed": "home, related, buy_again"}


async def test_buy_again_offers_what_was_bought_often_and_not_lately(shop: Shop) -> None:
    often = [shop.event("frida", "garden-1", "purchase", days_ago=d) for d in (40, 35, 30)]
    once = [shop.event("frida", "garden-2", "purchase", days_ago=30), shop.event("frida", "garden-3", days_ago=1)]
    await shop.behave(*often, *once)
    again = await shop.recommend("frida", scenario="buy_again", n=2)
    assert again.ids == ["garden-1", "garden-2"]
    assert again.body["items"][0]["channels"] == ["buy_again"]
    assert not {"garden-1", "garden-2", "garden-3"} & set((await shop.recommend("frida")).ids)


async def test_a_repeated_event_id_counts_as_accepted_and_has_no_second_effect(new_shop: Shop) -> None:
    event = new_shop.event("gina", "tea-5", "purchase")
    answers = [await new_shop.behave(event), await new_shop.behave(event, event)]
    assert [a["accepted"] for a in answers] == [1, 2]
    bucket = event["occurred_at"] // 300_000
    redis, tenant = new_shop.world.redis, new_shop.tenant
    sql = "SELECT count() AS n FROM behaviors FINAL WHERE tenant = {t:String}"

    async def once_everywhere() -> bool:
        hot = await redis.hgetall(f"lemo:hot:{tenant}:-:{bucket}")
        rows = await new_shop.world.olap.query(sql, {"t": tenant})
        return hot == {b"tea-5": b"5"} and rows == [{"n": 1}]

    await within(5.0, once_everywhere)
    prefix = new_shop.app.prefixes.of("profile")
    assert await redis.hgetall(f"{prefix}:profile:{tenant}:u:gina:purchases") == {b"tea-5": b"1"}


async def test_the_operator_pins_and_hides(new_shop: Shop) -> None:
    plain = (await new_shop.recommend(n=5)).ids
    pins = (Pin("toys-9", 1), Pin("no such item", 0))
    await new_shop.set_scenario(replace(PATIENT["home"], pins=pins, hidden=frozenset(plain[:2])))
    answer = await new_shop.recommend(n=5)
    assert answer.ids[1] == "toys-9"
    assert answer.body["items"][1]["channels"] == ["pinned"]
    assert not set(plain[:2]) & set(answer.ids)
    assert len(set(answer.ids)) == 5
    sold_out = {**next(i for i in items() if i["item_id"] == "toys-9"), "status": "unavailable"}
    await new_shop.write([sold_out])
    assert "toys-9" not in (await new_shop.recommend(n=5)).ids
