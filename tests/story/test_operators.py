"""What operators do while requests go on: pause, look at the lag, send dead letters again, rewind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import httpx
import pytest

from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM
from ray_app.events.base import Entry
from ray_app.operations.pool import Pool
from tests.story.conftest import House
from tests.story.shop import Shop, within

pytestmark = pytest.mark.asyncio(loop_scope="session")
_keys = count()


@pytest.fixture(scope="session")
async def operator(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an operator's key."""
    key = {"X-API-Key": await Keys(shop.world.documents, shop.world.clock).create(SYSTEM)}
    async with httpx.AsyncClient(transport=shop.http._transport, base_url="http://lemo", headers=key) as client:
        yield client


def pool(shop: Shop) -> Pool:
    return wiring.pool(shop.world)


async def test_a_flow_that_pauses_lets_entries_wait_and_then_goes_on(
    new_shop: Shop, operator: httpx.AsyncClient
) -> None:
    steer = "/api/v1/streams/profile"
    assert (await operator.put(steer, json={"paused": True})).json() == {"flow": "profile", "paused": True}
    try:
        await within(5.0, lambda: _members(operator, 0))
        await new_shop.behave(new_shop.event("ann", "tea-1", "purchase"), wait=False)
        await asyncio.sleep(0)
        (state,) = [f for f in (await operator.get("/api/v1/streams")).json()["flows"] if f["flow"] == "profile"]
        assert (state["paused"], state["lag"], state["members"]) == (True, 1, 0)
        assert sum(p["lag"] for p in state["partitions"]) == 1
        assert "tea-1" in (await new_shop.recommend("ann", n=60)).ids
    finally:
        await operator.put(steer, json={"paused": False})

    async def reacted() -> bool:
        answer = await new_shop.recommend("ann", n=20)
        return "tea-1" not in answer.ids

    await within(5.0, reacted)


async def _members(operator: httpx.AsyncClient, wanted: int) -> bool:
    flows = (await operator.get("/api/v1/streams")).json()["flows"]
    return [f["members"] for f in flows if f["flow"] == "profile"] == [wanted]


async def test_what_nobody_can_read_is_a_letter_that_waits_is_replayed_once_or_dropped(
    new_shop: Shop, operator: httpx.AsyncClient
) -> None:
    settings = new_shop.world.settings
    topic, broken = settings.events.behavior_topic, f"no event {next(_keys)}".encode()
    await new_shop.world.log.append(topic, [Entry("k", broken)])
    readers = {f for f in settings.streams.flows if f not in ("items", "slates", "neural", "tasks")}

    async def waiting() -> list[dict[str, str]]:
        found = (await operator.get("/api/v1/dead-letters", params={"topic": topic})).json()["letters"]
        return [x for x in found if x["body"] == broken.decode()]

    async def every_flow_buried_it() -> bool:
        return {x["flow"] for x in await waiting()} == readers

    await within(10.0, every_flow_buried_it)
    ids = [x["id"] for x in await waiting()]
    assert all(x["why"] and x["topic"] == topic for x in await waiting())
    sent = await operator.post("/api/v1/dead-letters/replay", json={"topic": topic, "ids": ids})
    assert sent.json() == {"sent": 1}
    assert (await operator.post("/api/v1/dead-letters/replay", json={"topic": topic, "ids": ids})).json() == {"sent": 0}
    await within(10.0, every_flow_buried_it)  # it is no better than it was: new letters
    again = [x["id"] for x in await waiting()]
    assert set(again).isdisjoint(ids)
    dropped = await operator.post("/api/v1/dead-letters/drop", json={"topic": topic, "ids": again})
    assert dropped.json() == {"dropped": len(readers)}
    assert await waiting() == []


async def test_a_tenants_key_opens_none_of_this(shop: Shop) -> None:
    for method, path, body in (
        ("GET", "streams", None), ("PUT", "streams/hot", {"paused": True}), ("GET", "dead-letters", None),
        ("POST", "dead-letters/replay", {"topic": "t", "ids": ["0/0"]}),
        ("POST", "dead-letters/drop", {"topic": "t", "ids": ["0/0"]}),
        ("GET", "models", None), ("GET", "models/shadow", None), ("GET", "models/ranker/1", None),
        ("PUT", "models/ranker/1", {}), ("POST", "models/ranker/rollback", {}),
    ):  # fmt: skip
        answer = await shop.http.request(method, f"/api/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (403, "FORBIDDEN"), path


async def test_a_rewound_flow_gives_the_same_answers_and_goes_on_reacting(open_shop: House) -> None:
    shop = await open_shop()
    await shop.behave(*[shop.event("bob", f"tea-{k}", "purchase") for k in range(3)])
    keys = [k async for k in shop.world.redis.scan_iter(f"lemo*:profile:{shop.tenant}:*")]
    assert keys
    await shop.world.redis.delete(*keys)  # as a bug would have it
    assert "tea-0" in (await shop.recommend("bob", n=60)).ids
    assert [p async for p in pool(shop).rewind("profile")][-1].behind == 0

    async def remembered() -> bool:
        return not {"tea-0", "tea-1", "tea-2"} & set((await shop.recommend("bob", n=20)).ids)

    await within(10.0, remembered)
    await shop.behave(shop.event("bob", "tea-3", "purchase"))  # waits for the new generation
    assert "tea-3" not in (await shop.recommend("bob", n=20)).ids


async def test_a_sink_is_read_again_and_holds_no_more_than_before(open_shop: House) -> None:
    shop = await open_shop()
    await shop.behave(*[shop.event("cid", f"tea-{k}") for k in range(4)])
    sql = "SELECT count() AS n FROM behaviors FINAL WHERE tenant = {t:String}"

    async def rows() -> int:
        return int((await shop.world.olap.query(sql, {"t": shop.tenant}))[0]["n"])

    async def all_are_there() -> bool:
        return await rows() == 4

    await within(10.0, all_are_there)
    (progress,) = [p async for p in pool(shop).rewind("behaviors")]
    assert progress.behind >= 4

    async def read_again() -> bool:
        return sum(line.lag for line in await pool(shop).lags("behaviors")) == 0

    await within(20.0, read_again)
    assert await rows() == 4
