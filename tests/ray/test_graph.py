"""`placement: graph` on a real cluster: the tests of both doors, and a stage that dies."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from ray_app.clock import SystemClock
from ray_app.launch import House
from ray_app.stores.embedded import free_port
from ray_app.stores.sqlite import SqliteDocuments
from tests.ray import test_doors as doors
from tests.ray.conftest import ITEMS, Shop, until
from tests.ray.test_jobs import submit

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


async def without_tombstones(shop: Shop) -> None:
    """As after a week."""
    clock = SystemClock()
    documents = SqliteDocuments(shop.data / "documents.db", clock)
    await documents.drop_tombstones(clock.now() + 1)
    await documents.close()


def of_a_kind(shop: Shop) -> dict[str, Any]:
    kind = [{"field": "category", "op": "eq", "value": "kind 3"}]
    answer = shop.post("/api/v1/recommend", {"scenario": "home", "user_id": "u1", "n": 20, "filters": kind})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_a_compaction_reaches_every_process_and_no_answer_names_another_item(apart: Shop) -> None:
    for k in range(0, ITEMS, 2):
        assert apart.http.delete(f"/api/v1/items/i{k}", params={"wait": "true"}).status_code == 200
    asyncio.run(without_tombstones(apart))
    done = submit(apart, "embed")
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: "embedder" in of_a_kind(apart)["versions"] and not of_a_kind(apart)["degraded"])
    ended = Event()

    def ask() -> list[dict[str, Any]]:
        found = []
        while not ended.is_set():
            found.append(of_a_kind(apart))
        return found

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            done = submit(apart, "compact")
            assert "is live" in done.stdout, done.stdout + done.stderr
            until(lambda: "rows" in of_a_kind(apart)["versions"] and not of_a_kind(apart)["degraded"])
        finally:
            ended.set()
        seen = asking.result()
    assert {"rows" in a["versions"] for a in seen} == {False, True}
    wanted = {f"i{k}" for k in range(1, ITEMS, 2) if k % 7 == 3}
    assert {i["item_id"] for a in seen for i in a["items"]} == wanted
    assert all(len(a["items"]) == len(wanted) for a in seen)
    assert {d["stage"] for a in seen for d in a["degraded"]} <= {"recall", "rank", "rerank"}
