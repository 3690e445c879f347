"""`placement: graph` on a real cluster: the tests of both doors, and a stage that dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from ray_app.launch import House
from ray_app.stores.embedded import free_port
from tests.ray import test_doors as doors
from tests.ray.conftest import ITEMS, Shop, until

SUITE = [
    doors.test_http_and_grpc_give_the_same_kind_of_answer,
    doors.test_no_key_is_refused_with_the_same_reason_at_both_doors,
    doors.test_an_answer_is_traced_and_explained_alike_at_both_doors,
    doors.test_a_new_item_can_be_recommended,
]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    data = tmp_path_factory.mktemp("apart")
    house = House(data, free_port(), free_port())
    house.start({"RAY_TMPDIR": f"/tmp/lemo-graph-{os.getpid()}", "LEMO_SERVING_PLACEMENT": "graph"})
    try:
        house.wait_ready(240)
        shop = Shop(house, data)
        items = [{"item_id": f"i{k}", "title": f"THING {k}", "category": f"kind {k % 7}"} for k in range(ITEMS)]
        assert shop.post("/api/v1/items", {"items": items}, wait="true").json()["accepted"] == ITEMS
        patient = shop.http.put("/api/v1/scenarios/home", json={"budget_s": 5.0})  # a busy machine degrades no answer
        assert patient.status_code == 200
        until(lambda: not shop.recommend().json()["degraded"] and "fallback" not in channels(shop))
        yield shop
    finally:
        house.stop()


def channels(shop: Shop) -> set[str]:
    return {c for i in shop.recommend().json()["items"] for c in i["channels"]}


@pytest.mark.parametrize("same", SUITE, ids=lambda f: f.__name__)
def test_what_holds_inline_holds_apart(apart: Shop, same: object) -> None:
    same(apart)  # type: ignore[operator]


def test_each_stage_is_a_process_of_its_own(apart: Shop) -> None:
    for name in ("Recall", "Rank", "Rerank"):
        assert len(apart.pids(f"ServeReplica:recommender:{name}")) == 1


def test_a_trace_comes_from_all_stages(apart: Shop) -> None:
    id = apart.recommend().json()["request_id"]
    trace = apart.http.get(f"/api/v1/recommend/{id}/trace").json()
    assert set(trace["stages_ms"]) >= {"recall", "rank", "rerank"}
    assert [s["step"] for s in trace["rerank"]] == ["diversity", "slate"]
    assert trace["channels"]


def test_answers_go_on_without_a_stage_and_are_whole_again_when_it_is_back(apart: Shop) -> None:
    (rank,) = apart.pids("ServeReplica:recommender:Rank")
    rank.kill()
    began, named = time.monotonic(), set()
    while time.monotonic() - began < 60:
        answer = apart.recommend()
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == 5
        named |= {d["stage"] for d in answer.json()["degraded"]}
        if "rank" in named and not answer.json()["degraded"]:
            break
    assert named <= {"rank"}
    until(lambda: not apart.recommend().json()["degraded"])
