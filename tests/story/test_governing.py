"""What an operator changes by configuration and rules alone, and how an answer is explained."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ray_app.events.schema import read_slate
from tests.story.conftest import House
from tests.story.shop import Shop, shelf_of

pytestmark = pytest.mark.asyncio(loop_scope="session")
TEA = {"field": "category", "op": "eq", "value": "tea"}


async def put(shop: Shop, path: str, body: object, status: int = 200) -> dict[str, Any]:
    answer = await shop.http.put(f"/api/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def explain(shop: Shop, item: str, **ask: Any) -> dict[str, Any]:
    return await shop.post("recommend/explain", {"item_id": item, "scenario": "home", "n": 5, **ask})


async def test_rules_begin_and_end_and_do_what_they_say(new_shop: Shop) -> None:
    shop, now = new_shop, new_shop.app.clock.now()
    before = (await shop.recommend("ann", n=10)).ids
    await put(shop, "rules/no-tea", {"action": "hide", "items": [TEA], "until": now + 3_600_000})
    assert "tea" not in (await shop.recommend("ann", n=60)).shelves
    await put(shop, "rules/top", {"action": "pin", "items": [{**TEA, "value": "toys"}], "position": 1, "count": 2})
    answer = await shop.recommend("ann", n=10)
    assert answer.shelves[1:3] == ["toys", "toys"]
    assert answer.body["items"][1]["reason"]["code"] == "PINNED"
    await put(shop, "rules/later", {"action": "hide", "items": [{**TEA, "value": "bath"}], "since": now + 3_600_000})
    listed = (await shop.http.get("/api/v1/rules")).json()["rules"]
    assert {r["id"]: r["active"] for r in listed} == {"later": False, "no-tea": True, "top": True}
    for rule in ("no-tea", "top", "later"):
        assert (await shop.http.delete(f"/api/v1/rules/{rule}")).json() == {"deleted": rule}
    assert (await shop.recommend("ann", n=10)).ids == before
    assert (await shop.http.delete("/api/v1/rules/top")).status_code == 404


async def test_a_boost_lifts_and_a_burial_sinks(new_shop: Shop) -> None:
    shop = new_shop
    await put(shop, "rules/up", {"action": "boost", "items": [{**TEA, "value": "paper"}], "amount": 3})
    await put(shop, "rules/down", {"action": "bury", "items": [TEA], "amount": 3})
    await put(shop, "scenarios/home", {"caps": [], "diversity": 0})
    shelves = (await shop.recommend("ann", n=30)).shelves  # all that channel `new` brings
    papers, teas = shelves.count("paper"), shelves.count("tea")
    assert shelves[:papers] == ["paper"] * papers
    assert shelves[-teas:] == ["tea"] * teas
    await put(shop, "scenarios/home", {"caps": [{"by": "category", "most": 1, "window": 3}], "diversity": 0})
    shelves = (await shop.recommend("ann", n=12)).shelves
    assert all(len(set(shelves[k : k + 3])) == 3 for k in range(10))


async def test_a_wrong_scenario_or_rule_is_told_where_it_is_wrong(new_shop: Shop) -> None:
    for path, body, field in (
        ("scenarios/home", {"diversifier": "mrr"}, "diversifier"),
        ("scenarios/home", {"caps": [{"by": "author", "most": 1}]}, "caps[0].by"),
        ("rules/r", {"action": "lift", "items": [TEA]}, "action"),
        ("rules/r", {"action": "hide", "items": [TEA], "scenarios": ["hom"]}, "scenarios"),
    ):
        refused = await put(new_shop, path, body, status=400)
        assert (refused["reason"], refused["metadata"]["field"]) == ("INVALID_FIELD", field)


async def test_what_is_explored_is_logged_with_its_propensities(open_shop: House) -> None:
    shop = await open_shop()
    await put(shop, "scenarios/home", {"exploration": {"share": 1.0, "temperature": 100}})
    answers = [await shop.recommend("ann", n=3) for _ in range(20)]
    assert len({tuple(a.ids) for a in answers}) > 10
    await shop.app.slates.flush()
    log, topic = shop.world.log, shop.world.settings.events.slate_topic
    entries = [e for p in range(4) for e in await log.read(topic, p, 0, 1000)]
    slates = {s.request_id: s for s in map(read_slate, (e.body for e in entries)) if s.tenant == shop.tenant}
    assert len(slates) == 20
    first = [slate.items[0].propensity for slate in slates.values()]
    assert all(0 < p < 0.1 for p in first)  # of thirty candidates, nearly alike at this temperature


async def test_a_trace_says_how_the_answer_came_to_be(new_shop: Shop) -> None:
    shop = new_shop
    await shop.behave(shop.event("ann", "tea-1", "purchase"))
    await put(shop, "rules/r", {"action": "boost", "items": [{**TEA, "value": "toys"}], "amount": 0.5})
    answer = await shop.recommend("ann", n=5, debug=True)
    trace = (await shop.http.get(f"/api/v1/recommend/{answer.body['request_id']}/trace")).json()
    assert [i["item_id"] for i in trace["items"]] == answer.ids
    assert trace["versions"] == answer.body["versions"]
    assert set(trace["stages_ms"]) == {"profile", "recall", "features", "rank", "rerank"}
    found = {c["channel"]: c["items"] for c in trace["channels"]}
    assert all(i["item_id"] in found[i["channels"][0]] for i in trace["items"] if i["channels"][0] in found)
    ranked = trace["candidates"]
    assert len(ranked[0]["features"]) == len(trace["features"]) > 0
    assert set(answer.ids) <= {c["item_id"] for c in ranked}
    assert [r["rule"] for r in trace["rules"]] == ["r"]
    assert Counter(map(shelf_of, trace["rules"][0]["items"]))["toys"] > 0
    assert trace["rerank"][0]["step"] == "boosts"
    assert trace["rerank"][0]["moves"]
    debug = answer.body["debug"]
    assert debug == {k: trace[k] for k in debug}


async def test_a_trace_is_its_tenants_alone_and_an_unknown_one_is_not_found(open_shop: House) -> None:
    ours, theirs = await open_shop(), await open_shop()
    id = (await ours.recommend("ann")).body["request_id"]
    assert (await ours.http.get(f"/api/v1/recommend/{id}/trace")).status_code == 200
    for shop, asked in ((theirs, id), (ours, "nothing")):
        refused = await shop.http.get(f"/api/v1/recommend/{asked}/trace")
        assert (refused.status_code, refused.json()["reason"]) == (404, "NOT_FOUND")


async def test_an_item_that_is_shown_is_explained(new_shop: Shop) -> None:
    shop = new_shop
    await shop.behave(shop.event("ann", "tea-1", "purchase"))
    answer = await shop.recommend("ann", n=5)
    why = await explain(shop, answer.ids[2], user_id="ann")
    assert (why["verdict"], why["place"]) == ("shown", 2)
    assert any(c["found"] for c in why["channels"])
    assert why["places"]["slate"] == 2


@pytest.mark.parametrize(
    ("change", "ask", "said"),
    [
        ({}, {"exclude": ["toys-3"]}, "the request excludes it"),
        ({"hidden": ["toys-3"]}, {}, "scenario 'home' hides it"),
        ({}, {"filters": [TEA]}, "filter category eq 'tea'"),
        ({}, {"user_id": "bob"}, "the visitor has seen it"),
    ],
)
async def test_an_item_that_may_not_be_shown_is_explained(
    new_shop: Shop, change: dict[str, Any], ask: dict[str, Any], said: str
) -> None:
    await new_shop.behave(new_shop.event("bob", "toys-3", "purchase"))
    await put(new_shop, "scenarios/home", change)
    why = await explain(new_shop, "toys-3", **ask)
    assert (why["verdict"], why["by"]) == ("filtered", [said])


async def test_an_item_hidden_by_a_rule_or_unavailable_is_explained(new_shop: Shop) -> None:
    await put(new_shop, "rules/r", {"action": "hide", "items": [TEA]})
    assert (await explain(new_shop, "tea-0"))["by"] == ["rule 'r' hides it"]
    await new_shop.write([{"item_id": "gone", "title": "gone", "status": "unavailable"}])
    assert (await explain(new_shop, "gone"))["by"] == ["it is unavailable"]
    assert (
        await new_shop.http.post("/api/v1/recommend/explain", json={"scenario": "home", "item_id": "no"})
    ).status_code == 404


async def test_an_item_that_no_channel_brought_names_the_nearest(new_shop: Shop) -> None:
    shop = new_shop
    await put(
        shop, "scenarios/home", {"channels": {"new": {"weight": 1, "quota": 5}, "hot": {"weight": 1, "quota": 5}}}
    )
    recent = [{"item_id": f"new-{k}", "title": f"new {k}", "published_at": 1_700_000_000_000 + k} for k in range(9)]
    await shop.write(recent)
    why = await explain(shop, "new-3")  # the sixth newest
    assert (why["verdict"], why["nearest"]) == ("not_recalled", "new")
    (new,) = [c for c in why["channels"] if c["channel"] == "new"]
    assert (new["place"], new["quota"], new["found"]) == (5, 5, False)


async def test_an_item_that_lost_names_the_step_and_the_limit(new_shop: Shop) -> None:
    shop = new_shop
    await put(shop, "scenarios/home", {"caps": [], "diversity": 0})
    order = (await shop.recommend("ann", n=60)).ids
    why = await explain(shop, order[20], user_id="ann")
    assert (why["verdict"], why["by"], why["last"]) == ("lost", "rank", order[4])
    await put(shop, "scenarios/home", {"caps": [{"by": "category", "most": 1}]})
    second = next(i for i in order[1:5] if shelf_of(i) in {shelf_of(j) for j in order[: order.index(i)]})
    why = await explain(shop, second, user_id="ann")
    assert (why["verdict"], why["by"], why["limits"]) == ("lost", "slate", ["category"])
    await put(shop, "scenarios/home", {"caps": []})
    await put(shop, "rules/r", {"action": "bury", "items": [{"field": "item_id", "op": "eq", "value": order[0]}]})
    why = await explain(shop, order[0], user_id="ann")
    assert (why["verdict"], why["by"], [r["rule"] for r in why["rules"]]) == ("lost", "boosts", ["r"])
