"""Tasks through the HTTP door, done by a real worker: submitted, seen, steered, and kept as history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ray_app.analytics.tasks import History
from ray_app.config import Settings
from ray_app.serving.http import build
from ray_app.stores.olap import Olap
from ray_app.tasks.figures import Figure
from ray_app.wiring import tasks as wired
from tests.story.conftest import House
from tests.story.office import TENANT_TASKS, Office, opened
from tests.story.shop import within
from tests.tasks_world import NOBODY

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.long]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(settings: Settings, open_shop: House) -> AsyncIterator[Office]:
    async with opened(settings, await open_shop()) as found:
        yield found


async def test_a_task_is_submitted_waited_for_and_read_with_its_progress_and_log(office: Office) -> None:
    id = (await office.submit({"name": "talk", "argument": {}}))["id"]
    found = await office.ended(id)
    assert (found["state"], found["attempts"], found["error"], found["tenant"]) == (
        "SUCCESS", 1, "", office.shop.tenant,
    )  # fmt: skip
    assert found["progress"] == {"done": 3, "total": 3, "note": "step 3"}
    assert found["log"] == ["line 1", "line 2", "line 3"]
    assert 0 < found["submitted_at"] <= found["started_at"] <= found["ended_at"]
    assert len(found["trace"]) == 32


async def test_an_old_producer_sends_its_old_name_with_arguments_by_position(office: Office) -> None:
    id = (await office.submit({"name": "old.tasks.nap", "args": [0.01], "kwargs": {"value": "done"}}))["id"]
    found = await office.ended(id)
    assert (found["name"], found["result"]) == ("nap", "done")
    assert found["argument"] == {"seconds": 0.01, "failures": 0, "value": "done"}
    both = {"name": "old.tasks.nap", "args": [1], "kwargs": {"seconds": 2}}
    assert (await office.refused(both))["metadata"]["field"] == "seconds"


async def test_a_task_that_fails_is_tried_again_and_then_a_dead_letter(office: Office) -> None:
    id = (await office.submit({"name": "nap", "argument": {"failures": 9}}))["id"]
    found = await office.ended(id)
    assert (found["state"], found["attempts"], found["error"]) == ("FAILURE", 4, "ValueError: failure 4")
    assert any("failure 1" in line for line in found["log"])
    dead = (await office.mine.get("/api/v1/dead-tasks")).json()["tasks"]
    assert [t["id"] for t in dead] == [id]
    for path in ("replay", "drop"):  # what another tenant asks for is not there
        answer = await office.other.post(f"/api/v1/dead-tasks/{path}", json={"ids": [id]})
        assert list(answer.json().values()) == [[]], path
    again = await office.mine.post("/api/v1/dead-tasks/replay", json={"ids": [id, "unknown"]})
    assert again.json() == {"replayed": [id]}
    assert (await office.ended(id))["attempts"] == 4
    dropped = await office.mine.post("/api/v1/dead-tasks/drop", json={"ids": [id]})
    assert dropped.json() == {"dropped": [id]}
    assert (await office.mine.get(f"{TENANT_TASKS}/{id}")).status_code == 404


async def test_a_chain_hands_on_results_and_a_group_calls_back(office: Office) -> None:
    one = lambda value: {"name": "add", "argument": {"value": value}}  # noqa: E731
    chain = await office.submit({"chain": [one(1), one(2), {"group": [one(3), one(4)], "then": one(5)}]})
    (last,) = chain["last"]
    assert len(chain["ids"]) == 5
    assert (await office.ended(last))["result"] == [[[[1], 2], 3], [[[1], 2], 4], 5]
    listed = await office.mine.get(TENANT_TASKS, params={"group": chain["group"]})
    assert {t["id"] for t in listed.json()["tasks"]} == set(chain["ids"])
    steps = [await office.ended(i) for i in chain["ids"]]
    assert all(a["ended_at"] <= b["started_at"] for a in steps for b in steps if a["id"] in b["after"])


async def test_what_waits_for_a_failure_fails_too_unless_it_takes_whatever_comes(office: Office) -> None:
    bad = {"name": "picky", "argument": {"value": "fail"}}
    good = {"name": "noop", "argument": {"value": 7}}
    strict = await office.submit({"group": [good, bad], "then": {"name": "add"}})
    found = await office.ended(strict["last"][0])
    assert (found["state"], found["attempts"]) == ("FAILURE", 0)
    assert f"task {strict['ids'][1]}, for which it" in found["error"]
    tolerant = await office.submit({"group": [good, bad], "then": {"name": "add", "whatever": True}})
    assert (await office.ended(tolerant["last"][0]))["result"] == [7, "FAILURE", None]


async def test_a_key_makes_a_repeated_call_one_task_or_one_chain(office: Office) -> None:
    task = {"name": "noop", "argument": {"value": 1}, "key": "k-1"}
    assert (await office.submit(task))["id"] == (await office.submit(task))["id"]
    assert (await office.submit(task, office.other))["id"] != (await office.submit(task))["id"]
    chain = {"chain": [{"name": "add"}, {"name": "add"}], "key": "k-2"}
    first, second = await office.submit(chain), await office.submit(chain)
    assert first == second
    await office.ended(first["last"][0])
    assert await office.tasks.effects(first["ids"][0]) == ["add 1"]
    assert (await office.submit(chain, office.other))["ids"] != first["ids"]
    refused = await office.refused({"chain": [{"name": "add", "key": "mine"}]})
    assert refused["metadata"]["field"] == "chain[0].key"


async def test_many_tasks_of_one_call_are_all_there_or_none(office: Office) -> None:
    found = await office.submit({"tasks": [{"name": "noop", "argument": {"value": k}} for k in range(20)]})
    results = [(await office.ended(i))["result"] for i in found["ids"]]
    assert results == list(range(20))
    body = {"tasks": [{"name": "noop", "id": "first-of-two"}, {"name": "noop", "argument": {"seconds": "soon"}}]}
    refused = await office.refused(body)
    assert refused["metadata"]["field"] == "tasks[1].seconds"
    assert (await office.mine.get(f"{TENANT_TASKS}/first-of-two")).status_code == 404


async def test_one_is_cancelled_before_its_time_and_one_while_it_runs(office: Office) -> None:
    later = (await office.submit({"name": "noop", "countdown_s": 3600}))["id"]
    due = (await office.mine.get(f"{TENANT_TASKS}/{later}")).json()
    assert 3_500_000 < due["eta"] - due["submitted_at"] <= 3_600_000
    listed = (await office.operator.get("/api/v1/workers")).json()["scheduled"]
    assert [t["due"] for t in listed if t["id"] == later] == [due["eta"]]
    cancelled = await office.mine.post(f"{TENANT_TASKS}/{later}/cancel")
    assert cancelled.json() == {"id": later, "state": "REVOKED"}
    long = (await office.submit({"name": "nap", "argument": {"seconds": 100}, "priority": 10}))["id"]

    async def runs() -> bool:
        active = (await office.operator.get("/api/v1/workers")).json()["active"]
        return [t["queue"] for t in active if t["id"] == long] == ["high_priority"]

    await within(10.0, runs)
    assert (await office.other.post(f"{TENANT_TASKS}/{long}/cancel")).status_code == 404
    await office.mine.post(f"{TENANT_TASKS}/{long}/cancel")
    assert (await office.ended(long))["state"] == "REVOKED"


async def test_a_tenant_sees_and_names_nothing_of_another(office: Office) -> None:
    id = (await office.submit({"name": "noop", "id": f"of-{office.shop.tenant}", "argument": {"value": 1}}))["id"]
    await office.ended(id)
    theirs = office.other
    assert (await theirs.get(f"{TENANT_TASKS}/{id}")).status_code == 404
    assert id not in {t["id"] for t in (await theirs.get(TENANT_TASKS)).json()["tasks"]}
    for body in ({"name": "noop", "id": id}, {"name": "noop", "after": [id]}):
        assert (await office.refused(body, theirs))["reason"] == "INVALID_FIELD", body
    assert (await office.refused({"name": "noop", "tenant": office.shop.tenant}, theirs))["reason"] == "FORBIDDEN"
    assert (await office.refused({"name": "sweep"}))["reason"] == "FORBIDDEN"
    assert (await office.ended(id, office.operator))["result"] == 1
    swept = await office.submit({"name": "sweep", "tenant": office.shop.tenant}, office.operator)
    assert (await office.ended(swept["id"]))["tenant"] == office.shop.tenant
    for path in ("workers", "queues", "pools", "pools/general"):
        assert (await office.mine.get(f"/api/v1/{path}")).status_code == 403, path
    assert (await office.mine.put("/api/v1/pools/general", json={"paused": True})).status_code == 403


async def test_operators_pause_scale_and_restart_a_pool_and_give_it_other_queues(office: Office) -> None:
    pool = "/api/v1/pools/general"

    async def slots() -> list[int]:
        workers = (await office.operator.get("/api/v1/workers")).json()["workers"]
        return [s["pid"] for w in workers if w["online"] for s in w["slots"]]

    async def steered(**wanted: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await office.operator.put(pool, json=wanted)).json()
        return found

    async def are_three() -> bool:
        return len(await slots()) == 3

    assert (await steered(paused=True))["paused"] is True
    id = (await office.submit({"name": "noop", "argument": {"value": 5}, "queue": "bulk"}))["id"]
    lines = (await office.operator.get("/api/v1/queues")).json()["queues"]
    assert [x["length"] for x in lines if x["queue"] == "bulk"] == [1]
    shown = (await office.operator.get(pool)).json()
    assert (shown["waiting"], shown["slots"], shown["workers"]) == (1, 2, 1)
    assert (await steered(paused=False, slots=3))["slots"] == 3
    assert (await office.ended(id))["result"] == 5
    await within(10.0, are_three)
    before = set(await slots())
    await steered(restart=True)

    async def are_new() -> bool:
        now = set(await slots())
        return len(now) == 3 and not now & before

    await within(10.0, are_new)
    assert (await steered(queues={"default": 3}))["queues"] == {"default": 3}
    known = await office.refused({"name": "noop", "queue": "nobody"})
    assert known["metadata"]["field"] == "queue"
    back = await steered(queues=None, slots=None)
    assert (back["queues"]["bulk"], back["slots"]) == (1, 2)
    for wrong in ({"queues": "bulk"}, {"slots": 0}, {"paused": "yes"}, {"replicas": -1}, {"colour": 1}):
        answer = await office.operator.put(pool, json=wrong)
        assert (answer.status_code, answer.json()["metadata"]["field"]) == (400, next(iter(wrong))), wrong
    assert (await office.operator.get("/api/v1/pools/nobody")).status_code == 404


async def test_what_is_wrong_with_a_submission_is_told(office: Office) -> None:
    for body, field in (
        ({"name": "nobody"}, "name"),
        ({"name": "noop", "argument": {"what": 1}}, "what"),
        ({"name": "noop", "argument": [1]}, "argument"),
        ({"name": "noop", "argument": {"value": 1}, "kwargs": {"value": 1}}, "argument"),
        ({"name": "noop", "args": [1]}, "args"),
        ({"name": "noop", "priority": 11}, "priority"),
        ({"name": "noop", "eta": "soon"}, "eta"),
        ({"name": "noop", "eta": 1, "countdown_s": 1}, "countdown_s"),
        ({"name": "noop", "countdown_s": -1}, "countdown_s"),
        ({"name": "noop", "after": ["nobody"]}, "after"),
        ({"name": "noop", "id": "history"}, "id"),
        ({"name": "noop", "colour": 1}, "colour"),
        ({"chain": []}, "chain"),
        ({"group": [{"name": "noop"}], "then": {"name": "noop", "eta": "x"}}, "then.eta"),
        ({"tasks": []}, "tasks"),
    ):
        assert (await office.refused(body))["metadata"]["field"] == field, body
    deep: dict[str, Any] = {"name": "noop"}
    for _ in range(50):
        deep = {"chain": [deep]}
    assert "in one another" in (await office.refused(deep))["message"]
    large = await office.refused({"name": "noop", "argument": {"value": "x" * 1_100_000}})
    assert (large["code"], large["reason"]) == (413, "PAYLOAD_TOO_LARGE")
    for params in ({"wait_s": "31"}, {"wait_s": "soon"}, {"wait_s": "nan"}):
        id = (await office.submit({"name": "noop"}))["id"]
        assert (await office.mine.get(f"{TENANT_TASKS}/{id}", params=params)).status_code == 400, params
    assert (await office.mine.get(TENANT_TASKS, params={"state": "LOST"})).status_code == 400


async def test_every_attempt_is_in_the_history_and_the_figures(office: Office) -> None:
    told: list[Figure] = []
    desk = wired.desk(office.world, told.extend)
    good = (await office.submit({"name": "noop", "argument": {"value": [1, 2]}}))["id"]
    bad = (await office.submit({"name": "nap", "argument": {"failures": 1}}))["id"]
    await office.ended(good)
    await office.ended(bad)
    assert await desk.step()

    async def attempts(**params: str) -> list[dict[str, Any]]:
        answer = await office.mine.get(f"{TENANT_TASKS}/history", params=params)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["attempts"]
        return found

    async def all_there() -> bool:
        return len(await attempts(id=bad)) == 2 and len(await attempts(id=good)) == 1

    await within(20.0, all_there)
    assert [(a["attempt"], a["state"]) for a in await attempts(id=bad)] == [(2, "SUCCESS"), (1, "RETRY")]
    (only,) = await attempts(id=good)
    assert (only["name"], only["result"], only["tenant"]) == ("noop", "[1,2]", office.shop.tenant)
    newest = await attempts(limit="2")
    assert len(newest) == 2
    assert newest[0]["noted_at"] >= newest[1]["noted_at"]
    older = await attempts(before=str(newest[1]["noted_at"]), task="nap")
    assert {a["name"] for a in older} == {"nap"}
    assert (await office.other.get(f"{TENANT_TASKS}/history", params={"id": good})).json() == {"attempts": []}
    assert (await office.operator.get(f"{TENANT_TASKS}/history", params={"id": good})).json()["attempts"] == [only]
    sums = {(f.name, f.labels): f.value for f in told}
    assert sums[("lemo_task_unshipped", ())] >= 3
    assert sums[("flower_events_total", ("nap", "task-retried"))] == 1.0
    assert sums[("lemo_task_ended_total", ("noop", "SUCCESS"))] == 1.0
    assert [f.value for f in told if f.name == "flower_worker_online"] == [1.0]
    assert ("lemo_task_queue_length", ("default",)) in sums


async def test_while_analytics_is_away_the_history_is_refused_and_tasks_go_on(office: Office) -> None:
    away = Olap(NOBODY, 1)
    app = replace(office.shop.app, queue=office.tasks.queue, history=History(away))
    transport = httpx.ASGITransport(build(lambda: app))
    headers = {"X-API-Key": office.mine.headers["X-API-Key"]}
    async with httpx.AsyncClient(transport=transport, base_url="http://lemo", headers=headers) as client:
        answer = await client.get(f"{TENANT_TASKS}/history")
        assert (answer.status_code, answer.json()["reason"]) == (503, "UNAVAILABLE")
        assert "analytics" in answer.json()["message"]
        submitted = await client.post(TENANT_TASKS, json={"name": "noop", "argument": {"value": 3}})
        await asyncio.sleep(0)
        assert (await office.ended(submitted.json()["id"]))["result"] == 3
    await away.close()
