"""Everything a client can send wrong, at the HTTP door of the running system: a clear refusal, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.ray.conftest import Shop

DAY_MS = 86_400_000
LONG = "x" * 1000
RECOMMEND = "/api/v1/recommend"
BEHAVIORS, ITEMS, USERS = "/api/v1/behaviors", "/api/v1/items", "/api/v1/users"


def now() -> int:
    return time.time_ns() // 1_000_000


def ask(**fields: Any) -> dict[str, Any]:
    return {"scenario": "home", "user_id": "u", "n": 5, **fields}


def behavior(**fields: Any) -> dict[str, Any]:
    return {"event_id": "bad", "user_id": "u", "item_id": "i1", "type": "click", "occurred_at": now(), **fields}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if k != name}


@pytest.fixture(autouse=True)
def nothing_is_lost(shop: Shop) -> Iterator[None]:
    """After each refusal the next right request is answered."""
    yield
    assert len(shop.recommend().json()["items"]) == 5


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"scenario": "home",}', b"\xff\xfe", b'{"n": NaN}', b'{"n": 1e999}', b"[" * 100_000, b'{"a":' * 2000,
     b"[]", b'"home"', b"7", b"null", b'{"scenario": "\\ud800"}'],
    ids=lambda b: repr(b[:24]),
)  # fmt: skip
@pytest.mark.parametrize("path", [RECOMMEND, BEHAVIORS, ITEMS, USERS])
def test_a_body_that_is_no_json_object(shop: Shop, path: str, body: bytes) -> None:
    answer = shop.http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["reason"] in ("INVALID_BODY", "INVALID_FIELD")
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("n", ask(n=0)), ("n", ask(n=-1)), ("n", ask(n=201)), ("n", ask(n=10_000)), ("n", ask(n=10**30)),
        ("n", ask(n=1.5)), ("n", ask(n="5")), ("n", ask(n=True)), ("n", ask(n=None)), ("n", ask(n=[])),
        ("user_id", ask(user_id="")), ("user_id", ask(user_id=LONG)), ("user_id", ask(user_id=7)),
        ("user_id", ask(user_id=["u"])), ("user_id", ask(user_id="a\x00b")), ("user_id", ask(user_id="a\nb")),
        ("user_id", ask(user_id="é" * 129)), ("user_id", ask(session_id="s")),
        ("session_id", without(ask(session_id=LONG), "user_id")),
        ("context_item_id", ask(context_item_id=LONG)), ("scenario", ask(scenario="")), ("scenario", ask(scenario=7)),
        ("scenario", without(ask(), "scenario")), ("colour", ask(colour="red")), ("debug", ask(debug="yes")),
        ("exclude", ask(exclude="i1")), ("exclude", ask(exclude=[7])), ("exclude", ask(exclude=["i"] * 1001)),
        ("filters", ask(filters="price")), ("filters", ask(filters=[{"field": "price", "op": "eq", "value": 1}] * 21)),
        ("filters[0]", ask(filters=[7])), ("filters[0]", ask(filters=[{"field": "price"}])),
        ("filters[0].field", ask(filters=[{"field": "colour", "op": "eq", "value": "red"}])),
        ("filters[0].op", ask(filters=[{"field": "price", "op": "like", "value": 1}])),
        ("filters[0].op", ask(filters=[{"field": "category", "op": "gte", "value": 1}])),
        ("filters[0].value", ask(filters=[{"field": "price", "op": "gte", "value": "cheap"}])),
        ("filters[0].value", ask(filters=[{"field": "category", "op": "in", "value": []}])),
    ],
    ids=lambda v: v if isinstance(v, str) else str(v)[:60],
)  # fmt: skip
def test_a_field_of_an_ask(shop: Shop, field: str, body: dict[str, Any]) -> None:
    answer = shop.post(RECOMMEND, body)
    refusal = answer.json()
    assert (answer.status_code, refusal["code"], refusal["reason"]) == (400, 400, "INVALID_FIELD")
    assert refusal["metadata"]["field"] == field
    assert refusal["metadata"]["allowed"]
    assert len(answer.text) < 1000  # a long value is not sent back whole


def test_the_example_of_the_wire(shop: Shop) -> None:
    refusal = shop.post(RECOMMEND, ask(n=0)).json()
    assert refusal["metadata"] == {"field": "n", "value": "0", "allowed": "1..200"}


@pytest.mark.parametrize(
    ("field", "one"),
    [
        ("event_id", without(behavior(), "event_id")), ("event_id", behavior(event_id=LONG)),
        ("item_id", without(behavior(), "item_id")), ("item_id", behavior(item_id=7)),
        ("type", without(behavior(), "type")), ("type", behavior(type="looked")), ("type", behavior(type=["click"])),
        ("user_id", without(behavior(), "user_id")), ("user_id", behavior(session_id="s")),
        ("occurred_at", without(behavior(), "occurred_at")), ("occurred_at", behavior(occurred_at="yesterday")),
        ("occurred_at", behavior(occurred_at=now() + DAY_MS)),
        ("occurred_at", behavior(occurred_at=now() - 401 * DAY_MS)), ("occurred_at", behavior(occurred_at=0)),
        ("occurred_at", behavior(occurred_at=-1)), ("occurred_at", behavior(occurred_at=10**20)),
        ("occurred_at", behavior(occurred_at=1.5)), ("occurred_at", behavior(occurred_at="9999-12-31T23:59:59Z")),
        ("occurred_at", behavior(occurred_at="0001-01-01T00:00:00+14:00")), ("occurred_at", behavior(occurred_at=True)),
        ("value", behavior(value="much")), ("value", behavior(value=True)),
        ("position", behavior(position=-1)), ("position", behavior(position=10_000)),
        ("position", behavior(position=1.0)), ("request_id", behavior(request_id=LONG)),
        ("scenario", behavior(scenario=7)), ("mood", behavior(mood="good")), ("element", 7), ("element", None),
        ("element", [1]),
    ],
    ids=lambda v: v if isinstance(v, str) else str(v)[:60],
)  # fmt: skip
def test_a_behaviour(shop: Shop, field: str, one: Any) -> None:
    """The bad one is rejected by its index; the good one beside it is accepted."""
    good = behavior(event_id=f"good-{now()}-{field}")
    mixed = shop.post(BEHAVIORS, {"behaviors": [good, one]})
    assert (mixed.status_code, mixed.json()["accepted"]) == (200, 1)
    (rejected,) = mixed.json()["rejected"]
    assert (rejected["index"], rejected["reason"], rejected["metadata"]["field"]) == (1, "INVALID_FIELD", field)
    alone = shop.post(BEHAVIORS, {"behaviors": [one]})
    assert (alone.status_code, alone.json()["accepted"], len(alone.json()["rejected"])) == (400, 0, 1)
    assert alone.json()["reason"] == "ALL_REJECTED"


@pytest.mark.parametrize(
    ("field", "one"),
    [
        ("item_id", {"title": "T"}), ("item_id", {"item_id": LONG, "title": "T"}), ("title", {"item_id": "i"}),
        ("title", {"item_id": "i", "title": ""}), ("title", {"item_id": "i", "title": "x" * 1001}),
        ("title", {"item_id": "i", "title": 7}), ("price", {"item_id": "i", "title": "T", "price": -1}),
        ("price", {"item_id": "i", "title": "T", "price": "cheap"}),
        ("status", {"item_id": "i", "title": "T", "status": "gone"}),
        ("tags", {"item_id": "i", "title": "T", "tags": "a"}), ("tags", {"item_id": "i", "title": "T", "tags": [7]}),
        ("tags", {"item_id": "i", "title": "T", "tags": ["t"] * 101}),
        ("attributes", {"item_id": "i", "title": "T", "attributes": []}),
        ("attributes", {"item_id": "i", "title": "T", "attributes": {"a": "x" * 40_000}}),
        ("version", {"item_id": "i", "title": "T", "version": -1}),
        ("version", {"item_id": "i", "title": "T", "version": 2**53}),
        ("published_at", {"item_id": "i", "title": "T", "published_at": "soon"}),
        ("colour", {"item_id": "i", "title": "T", "colour": "red"}), ("element", "i1"),
    ],
    ids=lambda v: v if isinstance(v, str) else str(v)[:60],
)  # fmt: skip
def test_an_item(shop: Shop, field: str, one: Any) -> None:
    answer = shop.post(ITEMS, {"items": [one]})
    assert answer.status_code == 400
    assert answer.json()["rejected"][0]["metadata"]["field"] == field


@pytest.mark.parametrize(("path", "name"), [(BEHAVIORS, "behaviors"), (ITEMS, "items"), (USERS, "users")])
def test_a_list_that_is_empty_too_long_or_none(shop: Shop, path: str, name: str) -> None:
    for elements in ([], [{}] * 1001, "abc", {}, None, 7):
        answer = shop.post(path, {name: elements})
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_FIELD")
        assert answer.json()["metadata"]["field"] == name


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_ten_megabytes(shop: Shop, chunked: bool) -> None:
    part = b'{"scenario":"' + b"h" * 1_000_000
    content: Any = (part for _ in range(10)) if chunked else part * 10
    answer = shop.http.post(RECOMMEND, content=content)
    assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")


def test_what_is_refused_for_its_wait_is_not_written(shop: Shop) -> None:
    body = {"items": [{"item_id": "unwritten", "title": "T"}]}
    assert shop.post(ITEMS, body, wait="perhaps").status_code == 400
    assert shop.post(ITEMS, {"items": [{"item_id": "written", "title": "T"}]}, wait="true").status_code == 200
    assert shop.http.get(f"{ITEMS}/unwritten").status_code == 404


def test_an_unknown_scenario_names_the_known_ones(shop: Shop) -> None:
    answer = shop.post(RECOMMEND, ask(scenario="hom"))
    assert (answer.status_code, answer.json()["reason"]) == (404, "UNKNOWN_SCENARIO")
    assert "home, related, buy_again" in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404), ("GET", "/", 404), ("PATCH", ITEMS, 405), ("GET", RECOMMEND, 405),
        ("GET", f"{ITEMS}/absent", 404), ("GET", f"{ITEMS}/{LONG}", 400), ("DELETE", f"{ITEMS}/{LONG}", 400),
        ("GET", f"{ITEMS}/i1/related?n=0", 400), ("GET", f"{ITEMS}/i1/related?n=many", 400),
        ("GET", f"{ITEMS}?limit=0", 400), ("GET", f"{ITEMS}?colour=red", 400), ("GET", f"{USERS}/nobody", 404),
        ("DELETE", f"{ITEMS}/i1?version=old", 400), ("POST", f"{ITEMS}?wait=perhaps", 400),
        ("GET", f"{ITEMS}?limit={'9' * 5000}", 400),
    ],
)  # fmt: skip
def test_a_path_or_query(shop: Shop, method: str, path: str, status: int) -> None:
    answer = shop.http.request(
        method, path, json={"items": [{"item_id": "i1", "title": "T"}]} if method == "POST" else None
    )
    assert answer.status_code == status
    assert {"code", "reason", "message", "metadata"} <= answer.json().keys()


@pytest.mark.parametrize(
    "user", ["ünï 💡", "a" * 256, "é" * 128, "../../etc", "' OR 1=1 --", "{}", "u:1", "%00", "名前"]
)
def test_ids_of_any_script_are_right(shop: Shop, user: str) -> None:
    assert shop.recommend(user).status_code == 200
    sent = shop.post(BEHAVIORS, {"behaviors": [behavior(event_id=f"{user[:100]}-{now()}", user_id=user)]}, wait="true")
    assert sent.json() == {"accepted": 1, "rejected": []}


@pytest.mark.parametrize(
    "headers",
    [{"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}],
)
def test_no_key_or_a_wrong_one(shop: Shop, headers: dict[str, str]) -> None:
    answer = httpx.post(shop.house.url + RECOMMEND, json=ask(), headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (401, "UNAUTHENTICATED")
    assert "lemo key" in answer.json()["message"]


def test_a_bearer_key_is_as_good(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.key}"}
    assert httpx.post(shop.house.url + RECOMMEND, json=ask(), headers=headers).status_code == 200
