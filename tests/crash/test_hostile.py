"""What other programs may write to the topics: each message is applied, counted once, or a dead letter with its reason,
as docs/events.md says, and no partition stands still. One member of the pool with all flows, every store served."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiokafka.errors import KafkaError

from ray_app.analytics import realtime
from ray_app.analytics.realtime import Slot
from ray_app.events.base import Appended
from ray_app.features.hot import WEIGHTS
from ray_app.streams.letters import KEPT_BYTES
from tests.crash.hostile import COUNTING, Producer, producing
from tests.crash.recount import hot_held
from tests.crash.test_served import Pool, pool, settings

__all__ = ["pool", "settings"]
DAY_MS, YEAR_MS = 86_400_000, 365 * 86_400_000
LONG = 2_000_000
DEEP = 1020  # just what the reader of JSON takes
ENDLESS = b'{"tenant_id": "t1", "item_id": ' + b"[" * 5000 + b"]" * 5000 + b"}"


def now() -> int:
    return int(time.time() * 1000)


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def deep(name: str, message: str, levels: int = DEEP) -> bytes:
    """The message, an object, with one more field so deep that no writer of JSON could make it."""
    return f'{message[:-1]}, "{name}": {"[" * levels}{"]" * levels}}}'.encode()


@pytest.fixture
async def producer(pool: Pool) -> AsyncIterator[Producer]:
    async with producing(pool) as opened:
        yield opened


@pytest.fixture
def tenant(pool: Pool) -> str:
    """Nobody has made it, nor a scenario of it."""
    return pool.stores.tenant


def view(tenant: str, **fields: Any) -> dict[str, Any]:
    said = {"tenantId": tenant, "userId": "u1", "itemId": "p1", "behaviorType": "view", "timestamp": now()}
    return {k: v for k, v in (said | fields).items() if v is not None}


async def rows(pool: Pool) -> dict[str, int]:
    """How often each event id of the tenant is there."""
    sql = "SELECT event_id, count() AS n FROM behaviors FINAL WHERE tenant = {t:String} GROUP BY event_id"
    found = await pool.world.olap.query(sql, {"t": pool.stores.tenant})
    return {r["event_id"]: r["n"] for r in found}


async def hot_of(pool: Pool) -> dict[tuple[str, str], int]:
    """Sums over all buckets by scenario and item."""
    sums: dict[tuple[str, str], int] = {}
    for (scenario, _), of_items in (await hot_held(pool.stores)).items():
        for item, n in of_items.items():
            sums[scenario, item] = sums.get((scenario, item), 0) + n
    return sums


async def clicks_of(pool: Pool, scenario: str = realtime.ALL) -> tuple[int, int]:
    """(clicks, late) of the last days."""
    slot = Slot(pool.stores.tenant, scenario)
    found = await realtime.read(pool.world.redis, "lemo", slot, "1d", (now() - 5 * DAY_MS, now() + DAY_MS))
    return sum(c.clicks for c in found), sum(c.late for c in found)


async def test_repeated_old_and_unknown_behaviours_are_counted_as_documented(producer: Producer, tenant: str) -> None:
    pool, topic = producer.pool, producer.pool.settings.events.behavior_topic
    for _ in range(3):
        await producer.send(topic, view(tenant, event_id="e1", scene="nobody-made-it"), 1)
    same = view(tenant)  # an id is made of what it is
    for _ in range(2):
        await producer.send(topic, same, 2)
    await producer.send(topic, view(tenant, event_id="old", timestamp=now() - 10 * YEAR_MS), 3)
    await producer.send(topic, view(tenant, event_id="first", timestamp=0), 3)
    await producer.send(topic, view(tenant, event_id="timeless", timestamp=None), 3)
    await producer.send(topic, view(tenant, event_id="stamped-1970", userId="u2"), 0, at=1000)
    await producer.send(topic, view(tenant, event_id="stamped-ahead", userId="u2"), 0, at=now() + 20 * YEAR_MS)
    await producer.send(topic, view(tenant, event_id="stamped-ahead", userId="u2"), 0, at=1000)
    await producer.refused([])
    held = await rows(pool)
    made = [i for i in held if i.startswith("content-")]
    named = {"e1", "old", "first", "timeless", "stamped-1970", "stamped-ahead"}
    assert held == dict.fromkeys({*named, *made}, 1)
    assert len(made) == 1
    counted = 5  # all but the two old ones, each once
    assert await hot_of(pool) == {("-", "p1"): counted * WEIGHTS["click"], ("nobody-made-it", "p1"): WEIGHTS["click"]}
    assert await clicks_of(pool) == (counted, 2)
    assert await clicks_of(pool, "nobody-made-it") == (1, 0)
    await producer.goes_on(topic, view(tenant))


def broken_behaviours(tenant: str) -> list[tuple[Any, str]]:
    """Messages, and what their letters say."""
    ours = {"tenant": tenant, "event_id": "o", "user_id": "u", "item_id": "p1", "type": "click", "occurred_at": now()}
    plain = '{"tenant": "t1", "event_id": "o", "user_id": "u", "type": "click", "occurred_at": 1}'
    return [
        (None, "JSONDecodeError"), (b"", "JSONDecodeError"), (b"{", "JSONDecodeError"),
        (b"\xff\xfe\x00", "JSONDecodeError"), (ENDLESS, "JSONDecodeError"), (b"null", "message is 'None'"),
        (b"[]", "message is '[]'"), (b'"text"', "message is 'text'"), (b"7", "message is '7'"),
        (b"[" * DEEP + b"]" * DEEP, "message is 'a value that is nested too deeply'"),
        (deep("item_id", plain), "item_id is 'a value that is nested too deeply'"),
        (deep("itemId", plain.replace("tenant", "tenantId")), "item_id is 'a value that is nested too deeply'"),
        (deep("time", plain.replace("tenant", "tenantId").replace("occurred_at", "x")), "occurred_at is"),
        (b'{"tenant": "t1", "value": NaN}', "JSONDecodeError"),
        (b'{"tenant": "t1", "value": 1e999}', "JSONDecodeError"),
        (ours | {"tenant": None}, "tenant_id is 'None'"), (ours | {"tenant": ["t"]}, "tenant_id is"),
        (ours | {"tenant": "No Tenant"}, "tenant_id is 'No Tenant'"), (ours | {"tenant": "system"}, "tenant_id is"),
        (ours | {"event_id": 5}, "event_id is '5'"), (ours | {"event_id": "x" * 257}, "event_id is"),
        (ours | {"item_id": {}}, "item_id is"), (ours | {"user_id": "a\nb"}, "user_id is"),
        (ours | {"type": []}, "type is '[]'"), (ours | {"type": {}}, "type is"), (ours | {"value": "1"}, "value is"),
        (ours | {"value": True}, "value is"), (ours | {"position": -1}, "position is"),
        (ours | {"position": 2**63}, "position is"), (ours | {"position": 1.5}, "position is"),
        (ours | {"scenario": 1}, "scenario is"), (ours | {"request_id": []}, "request_id is"),
        (ours | {"occurred_at": now() + DAY_MS}, "occurred_at is"), (ours | {"occurred_at": -1}, "occurred_at is"),
        (ours | {"occurred_at": 2**64 - 1}, "occurred_at is"), (ours | {"occurred_at": 1e300}, "occurred_at is"),
        (view(tenant, timestamp=2**64 - 1), "occurred_at is"), (view(tenant, timestamp=1e308), "occurred_at is"),
        (view(tenant, timestamp="soon"), "occurred_at is"), (view(tenant, timestamp=[1]), "occurred_at is"),
        (view(tenant, timestamp=True), "occurred_at is"), (view(tenant, timestamp=-5), "occurred_at is"),
        (view(tenant, timestamp=now() + 20 * YEAR_MS), "occurred_at is"),
        (view(tenant, value=[1]), "value is"), (view(tenant, durationMs="long"), "value is 'long'"),
        (view(tenant, durationMs=True), "value is 'True'"), (view(tenant, behaviorType=7), "type is '7'"),
        (view(tenant, userId={}), "user_id is"), (view(tenant, userId=1.5), "user_id is"),
        (view(tenant, itemId=""), "item_id is"), (view(tenant, itemId=False), "item_id is"),
        (view(tenant, scene={}), "scenario is"), (view(tenant, pos="3"), "position is"),
        (view(tenant, data={"tenantId": "another"}), "tenant_id is 'TENANT'; allowed: 'another'"),
        ({"replay": {"flows": list(COUNTING), "body": "e30=", "appended_at": 1}}, "tenant_id is 'None'"),
        ({"replay": {"flows": list(COUNTING), "body": "e30=", "appended_at": 1e300}}, "tenant_id is 'None'"),
        ({"replay": {"flows": 1}}, "tenant_id is 'None'"), ({"replay": None}, "tenant_id is 'None'"),
        ({"x" * LONG: 1}, "tenant_id is 'None'"), (view(tenant, userId="u" * LONG), "user_id is 'uuu"),
    ]  # fmt: skip


async def test_a_behaviour_that_cannot_be_read_is_a_letter_of_each_flow(producer: Producer, tenant: str) -> None:
    topic = producer.pool.settings.events.behavior_topic
    told: list[tuple[Appended, str]] = []
    for k, (message, why) in enumerate(broken_behaviours(tenant)):
        told.append((await producer.send(topic, message, k % 4), why.replace("TENANT", tenant)))
        await producer.send(topic, view(tenant, event_id=f"good-{k}"), k % 4)
    await producer.refused(told)
    assert await rows(producer.pool) == {f"good-{k}": 1 for k in range(len(told))}
    assert await hot_of(producer.pool) == {("-", "p1"): len(told) * WEIGHTS["click"]}
    assert await clicks_of(producer.pool) == (len(told), 0)
    await producer.goes_on(topic, view(tenant))


async def items(pool: Pool, *ids: str) -> dict[str, tuple[int, str | None]]:
    """(version, title) of each that is known; the title of one that was taken away is None."""
    found = await pool.world.documents.get_many(pool.stores.tenant, "items", ids, deleted=True)
    return {i: (d.version, None if d.deleted else d.body["title"]) for i, d in found.items()}


async def test_versions_decide_in_any_order_and_a_tombstone_outlives_a_delete(producer: Producer, tenant: str) -> None:
    pool, topic = producer.pool, producer.pool.settings.events.item_topic

    async def change(event: str, id: str, version: int, title: str | None = None, partition: int = 0) -> Appended:
        data = {"item_id": id, "version": version} | ({"title": title} if title else {})
        message = {"event_type": event, "tenant_id": tenant, "data": data}
        return await producer.send(topic, message, partition)

    for _ in range(2):
        await change("create", "twice", 1, "A")
    for version in (3, 1, 5, 2, 4):
        await change("create", "mixed", version, f"V{version}", version % 4)  # no order between partitions
    for event, version, title in (("create", 1, "A"), ("delete", 5, None), ("create", 4, "B"), ("update", 3, "C")):
        await change(event, "gone", version, title)
    for event, version, title in (("create", 1, "A"), ("delete", 2, None), ("update", 3, "Back")):
        await change(event, "back", version, title)
    await change("create", "lost", 1, "A")
    await change("delete", "lost", 2)
    lost = await change("update", "lost", 3)
    await change("delete", "never", 9)
    await change("create", "never", 8, "Late")
    await producer.refused([(lost, "item_id is 'lost'; allowed: an item to update: this one is deleted")])
    assert await items(pool, "twice", "mixed", "gone", "back", "lost", "never") == {
        "twice": (1, "A"), "mixed": (5, "V5"), "gone": (5, None), "back": (3, "Back"), "lost": (2, None),
        "never": (9, None),
    }  # fmt: skip
    await producer.goes_on(topic, {"tenant_id": tenant, "item_id": "good", "title": "Good"})


def broken_items(tenant: str) -> list[tuple[Any, str]]:
    good = {"tenant_id": tenant, "item_id": "p1", "title": "A"}
    ours = {"change": "upsert", "item": {"tenant": tenant, "id": "p1", "type": "item", "title": "A", "version": 1}}
    plain = f'{{"tenant_id": "{tenant}", "item_id": "p1", "title": "A"}}'
    return [
        (None, "JSONDecodeError"), (b"", "JSONDecodeError"), (b'{"tenant_id"', "JSONDecodeError"),
        (ENDLESS, "JSONDecodeError"), (b"[]", "message is '[]'"), (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
        (deep("price", plain), "price is"), (deep("attributes", plain), "attributes is"),
        (deep("colour", plain), "attributes is"), (deep("version", plain), "version is"),
        (deep("data", plain), "attributes is"), (deep("updated_at", plain), "updated_at is"),
        (good | {"attributes": {"a": nested(250)}}, "attributes is"),
        (good | {"item_id": None, "id": None}, "item_id is 'None'"), (good | {"item_id": 1.5}, "item_id is"),
        (good | {"item_id": "a\x00b"}, "item_id is"), (good | {"title": ["A"]}, "title is"),
        (good | {"title": " "}, "title is"), (good | {"title": "A" * 1001}, "title is"),
        (good | {"text": 7}, "text is"), (good | {"category": {}}, "category is"), (good | {"tags": {}}, "tags is"),
        (good | {"tags": [1]}, "tags is"), (good | {"tags": ["a"] * 101}, "tags is"), (good | {"media": 5}, "media is"),
        (good | {"price": "cheap"}, "price is"), (good | {"price": -1}, "price is"),
        (good | {"price": True}, "price is"),
        (good | {"status": "lost"}, "status is"), (good | {"status": []}, "status is"),
        (good | {"published_at": "soon"}, "published_at is"), (good | {"published_at": 1e300}, "published_at is"),
        (good | {"attributes": [1]}, "attributes is"), (good | {"attributes": {"a": "x" * 40_000}}, "attributes is"),
        (good | {"type": ["a"]}, "type is"), (good | {"version": "new"}, "version is"),
        (good | {"version": 2**53}, "version is"), (good | {"version": -1}, "version is"),
        (good | {"version": 1.5}, "version is"), (good | {"updated_at": now() + DAY_MS}, "updated_at is"),
        (good | {"updated_at": {}}, "updated_at is"), (good | {"event_type": "item.viewed"}, "event_type is"),
        (good | {"event_type": 3}, "event_type is '3'"), (good | {"tenant_id": 7}, "tenant_id is"),
        (good | {"tenant_id": "Nobody!"}, "tenant_id is"),
        (good | {"tenant": "other"}, "as the rest of the message says"),
        ({**ours, "item": ours["item"] | {"version": None}}, "version is"),
        ({**ours, "item": ours["item"] | {"x" * LONG: 1}}, "xxx"), ({**ours, "item": 5}, ""),
        ({"change": "delete", "tenant": tenant, "id": 5, "version": 1}, "item_id is"),
        ({"change": "delete", "tenant": tenant, "id": "p1", "version": "1"}, "version is"),
    ]  # fmt: skip


async def test_an_item_that_cannot_be_read_is_a_letter(producer: Producer, tenant: str) -> None:
    topic = producer.pool.settings.events.item_topic
    told: list[tuple[Appended, str]] = []
    for k, (message, why) in enumerate(broken_items(tenant)):
        told.append((await producer.send(topic, message, k % 4), why))
        await producer.send(topic, {"tenant_id": tenant, "item_id": f"i{k}", "title": "Good"}, k % 4)
    await producer.refused(told)
    held = await items(producer.pool, "p1", *(f"i{k}" for k in range(len(told))))
    assert {i: title for i, (_, title) in held.items()} == {f"i{k}": "Good" for k in range(len(told))}
    await producer.goes_on(topic, {"tenant_id": tenant, "item_id": "good", "title": "Good"})


async def test_odd_items_that_the_api_would_take_are_stored(producer: Producer, tenant: str) -> None:
    """Names and numbers that a document store may stumble over."""
    topic = producer.pool.settings.events.item_topic
    odd = {
        "a.b": 1, "$set": {"$inc": 1}, "": 2, "nul\x00": "\x00", "large": 2**64 - 1, "tiny": -(2**63), "float": 1e308,
        "deep": nested(240),
    }  # fmt: skip
    await producer.send(topic, {"tenant_id": tenant, "item_id": "$odd.é", "title": "\x00", "attributes": odd}, 1)
    await producer.send(topic, {"tenant_id": tenant, "item_id": "i" * 256, "title": "A", "price": 1e308}, 1)
    await producer.refused([])
    found = await producer.pool.world.documents.get_many(tenant, "items", ["$odd.é", "i" * 256])
    assert found["$odd.é"].body["attributes"] == odd
    assert found["i" * 256].body["price"] == 1e308
    await producer.goes_on(topic, {"tenant_id": tenant, "item_id": "good", "title": "Good"})


async def test_a_tenants_topic_that_is_made_meanwhile_is_its_alone(producer: Producer, tenant: str) -> None:
    """The broker makes it, with the senders' time: the log's time is then theirs."""
    pool, good = producer.pool, {"item_id": "p1", "title": "A"}
    topic = pool.settings.events.tenant_topics.replace("{tenant}", tenant)
    await producer.send(topic, good, at=now() - 10 * YEAR_MS)
    await producer.send(topic, {"item_id": "p2", "title": "A"}, at=1)
    with pytest.raises(KafkaError):  # the broker's own limit
        await producer.send(topic, {"item_id": "p3", "title": "A"}, at=now() + 20 * YEAR_MS)
    await producer.send(topic, good | {"tenant_id": tenant, "title": "B"})
    other = await producer.send(topic, good | {"tenant_id": "another", "title": "C"})
    inner = await producer.send(topic, {"tenant_id": tenant, "data": good | {"tenant": "another"}})
    empty = await producer.send(topic, None, key=b"p1")
    await producer.refused([
        (other, f"tenant_id is 'another'; allowed: '{tenant}', the tenant of topic {topic}, or none"),
        (inner, "as the rest of the message says"), (empty, "JSONDecodeError"),
    ])  # fmt: skip
    held = await items(pool, "p1", "p2", "p3")
    assert {i: title for i, (_, title) in held.items()} == {"p1": "B", "p2": "A"}
    assert held["p2"] == (1, "A")
    assert await pool.world.documents.get_many("another", "items", ["p1"]) == {}
    await producer.goes_on(topic, {"item_id": "good", "title": "Good"})


def slate(of: str, **fields: Any) -> dict[str, Any]:
    shown = {
        "item_id": "p1",
        "score": 1.0,
        "channels": ["hot"],
        "reason": {"code": "HOT", "text": "x"},
        "features": [1],
    }
    made = {"request_id": "r", "tenant": of, "scenario": "home", "visitor": "u:1", "answered_at": now()}
    return made | {"items": [shown], "degraded": []} | fields


def deeper(message: dict[str, Any]) -> bytes:
    """With the value DEEP so deep that it can be read and not be written."""
    return orjson.dumps(message).replace(b'"DEEP"', b"[" * 300 + b"]" * 300)


async def test_a_slate_that_cannot_be_read_is_a_letter(producer: Producer, tenant: str) -> None:
    pool, topic = producer.pool, producer.pool.settings.events.slate_topic
    broken: list[tuple[Any, str]] = [
        (None, "JSONDecodeError"), (b"", "JSONDecodeError"), (ENDLESS, "JSONDecodeError"), (b"[]", "TypeError"),
        (b"{}", "KeyError"), (slate(tenant, tenant=5), "tenant"), (slate("No!"), "tenant_id is 'No!'"),
        (slate(tenant, answered_at="now"), "answered_at"), (slate(tenant, answered_at=2**63), "answered_at"),
        (slate(tenant, answered_at=-1), "answered_at"), (slate(tenant, items=7), "TypeError"),
        (slate(tenant, items=[7]), "TypeError"), (slate(tenant, degraded=["x"]), "TypeError"),
        (slate(tenant, arms=[]), "arms"), (slate(tenant, visitor=None), "visitor"),
        (slate(tenant, **{"x" * LONG: 1}), "TypeError"),
        (deeper(slate(tenant, versions={"a": "DEEP"})), "Recursion limit reached"),
        (deep("arms", '{"request_id": "r"}'), ""),
        ({"replay": {"flows": ["slates"], "body": "", "appended_at": 1}}, ""),
    ]  # fmt: skip
    inside = slate(tenant)
    inside["items"][0]["features"] = ["DEEP"]
    told = [(await producer.send(topic, message, k % 4), why) for k, (message, why) in enumerate(broken)]
    told.append((await producer.send(topic, deeper(inside)), "Recursion limit reached"))
    for k in range(4):
        for _ in range(2):
            await producer.send(topic, slate(tenant, request_id=f"good-{k}"), k)
    await producer.refused(told)
    await producer.goes_on(topic, slate(tenant))
    sql = "SELECT request_id FROM slates FINAL WHERE tenant = {t:String}"
    found = sorted(r["request_id"] for r in await pool.world.olap.query(sql, {"t": tenant}))
    assert found == [*(f"good-{k}" for k in range(4)), *(f"good{k}" for k in range(4))]


async def test_large_messages_are_applied_or_kept_as_letters(producer: Producer, tenant: str) -> None:
    pool, e = producer.pool, producer.pool.settings.events
    await producer.send(e.behavior_topic, view(tenant, event_id="one-mb", page="x" * 1_000_000))
    await producer.send(e.behavior_topic, view(tenant, event_id="four-mb", page="x" * 4_100_000))
    text = b"\\ud83d\\ude00" * 100_000  # the longest that an item may have, as long as JSON can write it
    long = b'{"tenant_id": "%b", "item_id": "long", "title": "A", "text": "%b"}' % (tenant.encode(), text)
    await producer.send(e.item_topic, long)
    whole, cut = b"[" + b" " * 4_100_000, b"[" + b" " * 7_900_000
    four = await producer.send(e.behavior_topic, whole)
    eight = await producer.send(e.behavior_topic, cut)
    item = await producer.send(e.item_topic, cut)
    named = await producer.send(e.behavior_topic, b"[", key=b"\xff" * 2_000_000)
    await producer.refused([
        (four, "JSONDecodeError"), (named, "JSONDecodeError"),
        *((at, f"of {len(cut)} bytes the first {KEPT_BYTES} are kept") for at in (eight, item)),
    ])  # fmt: skip
    assert await rows(pool) == {"one-mb": 1, "four-mb": 1}
    assert {i: t for i, (_, t) in (await items(pool, "long")).items()} == {"long": "A"}
    assert {(x.body, x.whole) for x in (await producer.dead(four)).values()} == {(whole, True)}
    assert {(x.body, x.whole) for x in (await producer.dead(eight)).values()} == {(cut[:KEPT_BYTES], False)}
    await producer.goes_on(e.behavior_topic, view(tenant))
    await producer.goes_on(e.item_topic, {"tenant_id": tenant, "item_id": "good", "title": "Good"})
