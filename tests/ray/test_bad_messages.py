"""The same at the gRPC door: status, reason and metadata as HTTP answers them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2

from ray_app.serving.grpc.lemo.v1 import behavior_pb2, bulk_pb2, item_pb2, recommendation_pb2
from tests.ray.conftest import Shop
from tests.ray.test_bad_input import DAY_MS, LONG, ask, behavior, now, without

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
REQUESTS = {
    "Recommendation/Recommend": recommendation_pb2.RecommendRequest,
    "Item/UpsertItems": item_pb2.UpsertItemsRequest,
    "Item/GetItem": item_pb2.GetItemRequest,
    "Item/ListItems": item_pb2.ListItemsRequest,
    "Item/DeleteItem": item_pb2.DeleteItemRequest,
    "Behavior/TrackBehaviors": behavior_pb2.TrackBehaviorsRequest,
}


class Wire:
    """Calls by name with a dict or raw bytes; a refusal comes back as its error."""

    def __init__(self, shop: Shop, channel: grpc.Channel) -> None:
        self._key, self._channel = shop.key, channel

    def call(self, method: str, request: dict[str, Any] | bytes, key: str | None = None) -> bytes | grpc.RpcError:
        body = request if isinstance(request, bytes) else ParseDict(request, REQUESTS[method]()).SerializeToString()
        call = self._channel.unary_unary(f"/lemo.v1.{method}", lambda b: b, lambda b: b)
        try:
            return bytes(call(body, metadata=(("x-api-key", self._key if key is None else key),), timeout=15))
        except grpc.RpcError as e:
            return e

    def refused(self, method: str, request: dict[str, Any] | bytes, key: str | None = None) -> Any:
        found = self.call(method, request, key)
        assert isinstance(found, grpc.RpcError), f"{method} accepted it"
        return found


def info(e: Any) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo that rich-error clients read from the trailing metadata."""
    details = dict(e.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    assert status.message == e.details()
    return found


@pytest.fixture
def wire(shop: Shop) -> Iterator[Wire]:
    with grpc.insecure_channel(f"127.0.0.1:{shop.house.grpc_port}") as channel:
        yield Wire(shop, channel)
    assert len(shop.recommend().json()["items"]) == 5


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("n", ask(n=0)), ("n", ask(n=-1)), ("n", ask(n=10_000)), ("user_id", ask(user_id="")),
        ("user_id", ask(user_id=LONG)), ("user_id", ask(user_id="a\x00b")), ("user_id", ask(session_id="s")),
        ("scenario", without(ask(), "scenario")), ("context_item_id", ask(context_item_id=LONG)),
        ("exclude", ask(exclude=["i"] * 1001)),
        ("filters[0]", ask(filters=[{"field": "price"}])),
        ("filters[0].field", ask(filters=[{"field": "colour", "op": "eq", "value": "red"}])),
        ("filters[0].op", ask(filters=[{"field": "price", "op": "like", "value": 1}])),
        ("filters[0].value", ask(filters=[{"field": "price", "op": "gte", "value": "cheap"}])),
        ("filters[0].value", ask(filters=[{"field": "price", "op": "gte", "value": {"a": 1}}])),
    ],
    ids=lambda v: v if isinstance(v, str) else str(v)[:60],
)  # fmt: skip
def test_a_field_of_an_ask(wire: Wire, field: str, request_: dict[str, Any]) -> None:
    e = wire.refused("Recommendation/Recommend", request_)
    assert e.code() is INVALID
    assert info(e).reason == "INVALID_FIELD"
    assert info(e).metadata["field"] == field
    assert dict(e.trailing_metadata())["reason"] == "INVALID_FIELD"


def test_an_unknown_scenario_names_the_known_ones(wire: Wire) -> None:
    e = wire.refused("Recommendation/Recommend", ask(scenario="hom"))
    assert (e.code(), info(e).reason) == (NOT_FOUND, "UNKNOWN_SCENARIO")
    assert "home, related, buy_again" in e.details()


@pytest.mark.parametrize(
    ("field", "one"),
    [
        ("event_id", without(behavior(), "event_id")), ("event_id", behavior(event_id=LONG)),
        ("type", behavior(type="looked")), ("user_id", behavior(session_id="s")),
        ("occurred_at", without(behavior(), "occurred_at")), ("occurred_at", behavior(occurred_at=-1)),
        ("occurred_at", behavior(occurred_at=now() + DAY_MS)),
        ("occurred_at", behavior(occurred_at=now() - 401 * DAY_MS)), ("occurred_at", behavior(occurred_at=2**63 - 1)),
        ("value", behavior(value=float("nan"))), ("value", behavior(value=float("inf"))),
        ("position", behavior(position=-1)), ("item_id", behavior(item_id="")),
    ],
    ids=lambda v: v if isinstance(v, str) else str(v)[:60],
)  # fmt: skip
def test_a_behaviour(wire: Wire, field: str, one: dict[str, Any]) -> None:
    good = behavior(event_id=f"wire-{time.time_ns()}")
    mixed = behavior_pb2.TrackBehaviorsRequest()
    for fields in (good, one):
        event = mixed.behaviors.add()
        for name, value in fields.items():
            setattr(event, name, value)
    answer = wire.call("Behavior/TrackBehaviors", mixed.SerializeToString())
    assert isinstance(answer, bytes)
    found = bulk_pb2.BulkResponse.FromString(answer)
    assert (found.accepted, [r.index for r in found.rejected]) == (1, [1])
    assert found.rejected[0].metadata["field"] == field


def test_lists_that_are_empty_or_too_long(wire: Wire) -> None:
    for method, name in (("Behavior/TrackBehaviors", "behaviors"), ("Item/UpsertItems", "items")):
        for elements in ([], [{}] * 1001):
            e = wire.refused(method, {name: elements})
            assert (e.code(), info(e).metadata["field"]) == (INVALID, name)


def test_all_rejected(wire: Wire) -> None:
    e = wire.refused("Item/UpsertItems", {"items": [{"item_id": "i", "title": ""}]})
    assert (e.code(), info(e).reason, info(e).metadata["field"]) == (INVALID, "ALL_REJECTED", "title")
    answer = bulk_pb2.BulkResponse()
    status = status_pb2.Status.FromString(dict(e.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[1].Unpack(answer)
    assert [r.index for r in answer.rejected] == [0]


@pytest.mark.parametrize("body", [b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x03\xff\xfe\xfd"])
def test_bytes_that_are_no_message(wire: Wire, body: bytes) -> None:
    e = wire.refused("Recommendation/Recommend", body)
    assert e.code() in (INVALID, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


def test_a_message_of_ten_megabytes(wire: Wire) -> None:
    e = wire.refused("Recommendation/Recommend", ask(scenario="h" * 10_000_000))
    assert e.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unknown_fields_of_a_newer_client_are_left_out(wire: Wire) -> None:
    known = ParseDict(ask(), recommendation_pb2.RecommendRequest()).SerializeToString()
    assert isinstance(wire.call("Recommendation/Recommend", known + b"\xfa\x3f\x03abc"), bytes)


def test_an_unknown_method(wire: Wire) -> None:
    assert wire.refused("Recommendation/Guess", b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_absent_item(wire: Wire) -> None:
    assert wire.refused("Item/GetItem", {"item_id": "absent"}).code() is NOT_FOUND
    assert wire.refused("Item/GetItem", {"item_id": LONG}).code() is INVALID
    assert wire.refused("Item/ListItems", {"limit": 0}).code() is INVALID
    assert wire.refused("Item/DeleteItem", {"item_id": "i1", "version": -1}).code() is INVALID


@pytest.mark.parametrize("user", ["ünï 💡", "é" * 128, "' OR 1=1 --", "名前"])
def test_ids_of_any_script_are_right(wire: Wire, user: str) -> None:
    assert isinstance(wire.call("Recommendation/Recommend", ask(user_id=user)), bytes)


def test_no_key_or_a_wrong_one(wire: Wire) -> None:
    for key in ("", "wrong"):
        for method in REQUESTS:
            e = wire.refused(method, b"", key)
            assert (e.code(), info(e).reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
