"""Both doors of the running system, as a client meets them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from ray_app.serving.grpc.lemo.v1 import recommendation_pb2, recommendation_pb2_grpc
from tests.ray.conftest import Shop, until


def channel(shop: Shop) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{shop.house.grpc_port}")


def test_http_and_grpc_give_the_same_kind_of_answer(shop: Shop) -> None:
    over_http = shop.recommend().json()
    with channel(shop) as wire:
        over_grpc = recommendation_pb2_grpc.RecommendationStub(wire).Recommend(
            recommendation_pb2.RecommendRequest(scenario="home", user_id="nobody", n=5),
            metadata=(("x-api-key", shop.key),), timeout=10,
        )  # fmt: skip
    assert len(over_http["items"]) == len(over_grpc.items) == 5
    assert over_grpc.request_id
    assert over_grpc.items[0].reason.code


def test_a_reflection_client_finds_the_services(shop: Shop) -> None:
    with channel(shop) as wire:
        database = ProtoReflectionDescriptorDatabase(wire)
        services = set(database.get_services())
        method = DescriptorPool(database).FindServiceByName("lemo.v1.Item").FindMethodByName("UpsertItems")
    assert {"lemo.v1.Recommendation", "lemo.v1.Item", "lemo.v1.Behavior"} <= services
    assert method is not None


def test_no_key_is_refused_with_the_same_reason_at_both_doors(shop: Shop) -> None:
    answer = shop.http.get("/api/v1/scenarios", headers={"X-API-Key": "wrong"})
    assert (answer.status_code, answer.json()["reason"]) == (401, "UNAUTHENTICATED")
    with channel(shop) as wire:
        stub = recommendation_pb2_grpc.RecommendationStub(wire)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Recommend(recommendation_pb2.RecommendRequest(n=1), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_fifty_open_health_watches_hold_up_nobody(shop: Shop) -> None:
    with channel(shop) as wire, ThreadPoolExecutor(50) as pool:
        stub = health_pb2_grpc.HealthStub(wire)

        def watch(_: int) -> grpc.StatusCode:
            try:
                list(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20))
            except grpc.RpcError as e:
                return e.code()
            return grpc.StatusCode.OK

        codes = list(pool.map(watch, range(50)))
        assert set(codes) == {grpc.StatusCode.UNIMPLEMENTED}
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
    assert shop.recommend().status_code == 200


def test_a_new_item_can_be_recommended(shop: Shop) -> None:
    body = {"items": [{"item_id": "brand-new", "type": "item", "title": "BRAND NEW THING"}]}
    assert shop.post("/api/v1/items", body, wait="true").json()["accepted"] == 1
    ask = {
        "scenario": "home",
        "user_id": "x",
        "n": 3,
        "filters": [{"field": "item_id", "op": "eq", "value": "brand-new"}],
    }
    until(lambda: [i["item_id"] for i in shop.post("/api/v1/recommend", ask).json()["items"]] == ["brand-new"], 5)


def test_an_answer_is_traced_and_explained_alike_at_both_doors(shop: Shop) -> None:
    def kept() -> tuple[dict[str, Any], dict[str, Any]] | None:
        """An answer and its trace; after many answers at once a replica keeps two traces a second."""
        shown = shop.recommend().json()
        found = shop.http.get(f"/api/v1/recommend/{shown['request_id']}/trace")
        return (shown, found.json()) if found.status_code == 200 else None

    shown, traced = until(kept, 20)  # type: ignore[misc]
    id, item, key = shown["request_id"], shown["items"][1]["item_id"], (("x-api-key", shop.key),)
    ask = {"item_id": item, "scenario": "home", "user_id": "nobody", "n": 5}
    explained = shop.post("/api/v1/recommend/explain", ask).json()
    assert (explained["verdict"], explained["place"]) == ("shown", 1)
    with channel(shop) as wire:
        stub = recommendation_pb2_grpc.RecommendationStub(wire)
        trace = stub.GetTrace(recommendation_pb2.GetTraceRequest(request_id=id), metadata=key, timeout=10)
        why = stub.Explain(recommendation_pb2.ExplainRequest(**ask), metadata=key, timeout=10)
    assert MessageToDict(trace) == traced
    said = MessageToDict(why)  # of another moment: ages and scores have moved a little
    assert {k: said[k] for k in ("verdict", "place", "why", "places")} == {
        k: explained[k] for k in ("verdict", "place", "why", "places")
    }
    assert said.keys() == explained.keys()
