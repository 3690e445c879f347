"""The Python client before the doors in process: every call, results of tasks, and what is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from lemo_client import AsyncLemo, Lemo, Refused, Retries, TaskFailed, TaskTimeout, Unreachable, part

from ray_app.config import Settings
from ray_app.serving.use import Use
from ray_app.serving.usecases import USES
from tests.story.conftest import House
from tests.story.office import Office, opened

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.long]
QUICK = Retries(first_s=0.01, most_s=0.02)


class Network(httpx.AsyncBaseTransport):
    """The way to the doors. `troubles` come first: an error before the call arrives, one after it was done, or a status
    that a proxy answers; `seen` are the calls that arrived."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.troubles: list[tuple[str, Any]] = []
        self.tried = 0
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.tried += 1
        kind, what = self.troubles.pop(0) if self.troubles else ("", None)
        if kind == "status":
            return httpx.Response(what, headers={"Retry-After": "0"}, json={"reason": "BUSY", "message": "busy"})
        if kind == "before":
            raise what
        self.seen.append(request)
        answer = await self._inner.handle_async_request(request)
        if kind == "after":
            raise what
        return answer


class Bridge(httpx.BaseTransport):
    """From another thread into the loop of the doors."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner, self._loop = inner, asyncio.get_running_loop()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answered() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return asyncio.run_coroutine_threadsafe(answered(), self._loop).result(60)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(settings: Settings, open_shop: House) -> AsyncIterator[Office]:
    async with opened(settings, await open_shop()) as found:
        yield found


@pytest.fixture
def network(office: Office) -> Network:
    return Network(office.mine._transport)


@pytest_asyncio.fixture(loop_scope="session")
async def lemo(office: Office, network: Network) -> AsyncIterator[AsyncLemo]:
    async with AsyncLemo(office.mine.headers["X-API-Key"], "http://lemo", retries=QUICK, transport=network) as client:
        yield client


def use_of(request: httpx.Request) -> Use:
    """The first of the table whose path fits, as the router finds it."""
    for use in USES:
        want, have = use.path.replace(":path", "").split("/"), request.url.raw_path.decode().split("?")[0].split("/")
        fits = len(want) == len(have) and all(w == h or w.startswith("{") for w, h in zip(want, have, strict=False))
        if use.method == request.method and fits:
            return use
    raise AssertionError(f"{request.method} {request.url} is no use case")


async def test_every_call_of_a_tenant_is_there(office: Office, lemo: AsyncLemo, network: Network) -> None:
    await lemo.put_items([{"item_id": "a/b ü", "title": "tea", "category": "tea", "version": 1}], wait=True)
    assert (await lemo.get_item("a/b ü"))["title"] == "tea"
    assert len((await lemo.list_items(category="tea", limit=5))["items"]) == 5
    tea = {"field": "category", "op": "eq", "value": "tea"}
    slate = await lemo.recommend("home", user_id="ann", n=3, filters=[tea])
    assert len(slate["items"]) == 3
    await lemo.track([{"user_id": "ann", "item_id": "tea-1", "type": "click"}], wait=True)
    assert [r["item_id"] for r in (await lemo.profile("ann"))["recent"]] == ["tea-1"]
    assert (await lemo.related("tea-1", n=4))["items"]
    assert (await lemo.explain("tea-1", "home", user_id="ann"))["item_id"] == "tea-1"
    await lemo.popular(n=3)
    with pytest.raises(Refused) as unknown:
        await lemo.trace("nobody/has this")
    assert (unknown.value.status, unknown.value.reason) == (404, "NOT_FOUND")
    await lemo.put_users([{"user_id": "ann", "attributes": {"city": "Bern"}}])
    assert (await lemo.get_user("ann"))["attributes"] == {"city": "Bern"}
    await lemo.put_scenario("shelf", title="Shelf")
    assert "shelf" in {s["id"] for s in (await lemo.scenarios())["scenarios"]}
    await lemo.put_rule("no-tea", "hide", [tea])
    assert [r["id"] for r in (await lemo.rules())["rules"]] == ["no-tea"]
    await lemo.delete_rule("no-tea")
    assert len((await lemo.realtime(window="1h", n=2))["windows"]) == 2
    await lemo.delete_item("a/b ü", version=2, wait=True)
    await lemo.put_store("of-client", title="Bern")
    assert (await lemo.get_store("of-client"))["title"] == "Bern"
    assert [s["store_id"] for s in (await lemo.list_stores())["stores"]] == ["of-client"]
    event = {"event_id": f"e-{office.shop.tenant}", "event_type": "staff.scheduled", "store_id": "of-client"}
    assert (await lemo.send_events([event]))["accepted"] == 1
    await lemo.search_events(n=1, type="staff.scheduled")
    with pytest.raises(Refused, match="unknown"):
        await lemo.get_event("nobody")
    await lemo.search_collection("orders", "tea", n=1)
    await lemo.put_source("news", "rss", "https://example.com/feed.xml")
    assert [s["id"] for s in (await lemo.list_sources())["sources"]] == ["news"]
    assert (await lemo.get_source("news"))["url"] == "https://example.com/feed.xml"
    await lemo.delete_source("news")
    assert (await lemo.list_documents(limit=1))["documents"] == []
    with pytest.raises(Refused, match="rebuild_index"):  # nothing was indexed yet
        await lemo.search_documents("tea", n=1)
    with pytest.raises(Refused, match="unknown"):
        await lemo.get_document("nobody")
    done = await lemo.submit("noop", {"value": 1})
    await done.wait(20)
    assert [t["id"] for t in (await lemo.list_tasks(state="SUCCESS"))["tasks"]] == [done.id]
    assert await done.cancel() == "SUCCESS"
    await lemo.task_history(id=done.id)
    assert (await lemo.dead_tasks())["tasks"] == []
    assert await lemo.replay_dead_tasks([done.id]) == {"replayed": []}
    assert await lemo.drop_dead_tasks([done.id]) == {"dropped": []}
    assert (await lemo.list_reports())["reports"] == []
    with pytest.raises(Refused, match="no report"):
        await lemo.get_report("nobody")
    wanted = {u.name for u in USES if "operator's key" not in u.about}
    assert wanted - {use_of(r).name for r in network.seen} == set()


async def test_every_call_of_an_operator_is_there(office: Office, network: Network) -> None:
    tenant, key = office.shop.tenant, office.operator.headers["X-API-Key"]
    async with AsyncLemo(key, "http://lemo", retries=QUICK, transport=network) as lemo:
        every = {"cron": "0 3 * * *", "zone": "Europe/Berlin"}
        assert len((await lemo.preview_schedule(**every, n=2))["preview"]) == 2
        await lemo.put_schedule("nightly", "noop", **every)
        assert [s["id"] for s in (await lemo.list_schedules(limit=1000))["schedules"]] == ["nightly"]
        assert (await lemo.pause_schedule("nightly", "not now"))["why"] == "not now"
        assert not (await lemo.resume_schedule("nightly"))["paused"]
        assert (await lemo.trigger_schedule("nightly"))["task"].startswith("nightly@")
        assert (await lemo.backfill_schedule("nightly", "2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z"))["tasks"]
        assert len((await lemo.get_schedule("nightly", n=3))["preview"]) == 3
        assert await lemo.delete_schedule("nightly") == {"deleted": 1}
        with pytest.raises(Refused, match="health was not checked"):
            await lemo.status()
        assert (await lemo.list_alerts(n=1))["alerts"] == []
        (worker,) = (await lemo.list_workers())["workers"]
        assert worker["pool"] == "general"
        assert "default" in {q["queue"] for q in (await lemo.list_queues())["queues"]}
        assert [p["pool"] for p in (await lemo.list_pools())["pools"]] == ["general"]
        assert (await lemo.steer_pool("general", paused=False))["paused"] is False
        assert (await lemo.get_pool("general"))["pool"] == "general"
        flows = {f["flow"] for f in (await lemo.list_streams())["flows"]}
        assert "hot" in flows
        assert await lemo.steer_stream("hot", False) == {"flow": "hot", "paused": False}
        assert (await lemo.list_letters("behavior-events"))["letters"] == []
        assert await lemo.replay_letters("behavior-events", ["nobody"]) == {"sent": 0}
        assert await lemo.drop_letters("behavior-events", ["nobody"]) == {"dropped": 0}
        assert (await lemo.list_models(tenant))["versions"] == []
        assert (await lemo.compare_shadow(tenant))["shadows"] == []
        for call in (
            lemo.show_model(tenant, "ranker", "v"), lemo.move_model(tenant, "ranker", "v", "live"),
            lemo.rollback_model(tenant, "ranker"),
        ):  # fmt: skip
            with pytest.raises(Refused, match="ranker"):
                await call
    wanted = {u.name for u in USES if "operator's key" in u.about}
    assert wanted - {use_of(r).name for r in network.seen} == set()


async def test_results_of_tasks_are_like_celerys(office: Office) -> None:
    key = office.mine.headers["X-API-Key"]

    def work(bridge: Bridge) -> None:
        with Lemo(key, "http://lemo", transport=bridge) as lemo:
            handle = lemo.submit("old.tasks.nap", args=[0.05], kwargs={"value": {"a": [1]}})
            assert handle.state in ("PENDING", "STARTED", "SUCCESS")
            assert handle.wait(20) == {"a": [1]}
            assert (handle.state, handle.result) == ("SUCCESS", {"a": [1]})
            assert lemo.result(handle.id).result == lemo.wait(handle.id, 1) == {"a": [1]}
            failing = lemo.submit("picky", {"value": "fail"})
            with pytest.raises(TaskFailed, match="Fail: it will never do") as failed:
                failing.wait(20)
            assert failed.value.task["attempts"] == 1
            late = lemo.submit("noop", eta=datetime.now(UTC) + timedelta(days=30))
            with pytest.raises(TaskTimeout):
                late.wait(0)
            assert (late.result, late.cancel(), late.state) == (None, "REVOKED", "REVOKED")
            results = lemo.submit_many([part("noop", {"value": k}) for k in range(3)])
            assert [r.wait(20) for r in results] == [0, 1, 2]
            assert lemo.chain(part("add", {"value": 1}), part("add", {"value": 2})).wait(20) == [[1], 2]
            (both,) = lemo.group(part("noop", {"value": 1}), part("noop", {"value": 2}), then=part("add"))
            assert both.wait(20) == [1, 2, None]
            with pytest.raises(Refused, match="is unknown"):
                lemo.submit("nobody")
            drop = lemo.dead_tasks()["tasks"]
            lemo.drop_dead_tasks([t["id"] for t in drop])

    await asyncio.to_thread(work, Bridge(office.mine._transport))


async def test_the_async_client_does_the_same(lemo: AsyncLemo) -> None:
    last = await lemo.chain(part("add", {"value": 1}), {"group": [part("noop", {"value": 2})], "then": part("add")})
    assert await last.wait(20) == [2, None]
    one, two = await lemo.group(part("noop", {"value": 1}), part("noop", {"value": 2}))
    assert [await one.wait(20), await lemo.wait(two.id)] == [1, 2]
    assert (await one.state(), await one.result()) == ("SUCCESS", 1)
    (many,) = await lemo.submit_many([part("noop", {"value": 5})])
    assert await lemo.result(many.id).wait(20) == 5


LOST = httpx.ReadError("the answer was lost")
NO_WAY = httpx.ConnectError("nobody listens")


@pytest.mark.parametrize(
    "troubles",
    [
        [("status", 503), ("status", 429)],
        [("before", NO_WAY), ("before", NO_WAY), ("before", NO_WAY)],
        [("after", LOST), ("status", 503), ("after", LOST)],
    ],
    ids=["busy", "no way", "answers lost"],
)
async def test_a_submission_is_sent_again_and_is_one_task(
    office: Office, lemo: AsyncLemo, network: Network, troubles: list[tuple[str, Any]]
) -> None:
    network.troubles = list(troubles)
    one = await lemo.submit("add", {"value": 1})
    assert network.tried == len(troubles) + 1
    network.troubles = list(troubles)
    last = await lemo.chain(part("add"), part("add"))
    await one.wait(20)
    await last.wait(20)
    for task in (await lemo.list_tasks(group=(await last.get())["group"]))["tasks"]:
        assert await office.tasks.effects(task["id"]) == ["add 1"]
    assert await office.tasks.effects(one.id) == ["add 1"]


async def test_what_may_not_be_done_twice_is_not_sent_again(lemo: AsyncLemo, network: Network) -> None:
    network.troubles = [("after", LOST)]
    with pytest.raises(Unreachable, match="the answer was lost"):
        await lemo.put_items([{"item_id": "x", "title": "x"}])  # without a version
    assert network.tried == 1
    network.troubles = [("after", LOST)]
    await lemo.put_items([{"item_id": "x", "title": "x", "version": 1}])
    network.troubles = [("before", NO_WAY)]
    await lemo.put_items([{"item_id": "x", "title": "x"}])
    network.tried, network.troubles = 0, [("status", 500)]
    with pytest.raises(Refused, match="busy"):
        await lemo.recommend("home")
    assert network.tried == 1


async def test_it_gives_up_after_so_many_tries_and_says_what_happened(lemo: AsyncLemo, network: Network) -> None:
    network.troubles = [("status", 503)] * 9
    with pytest.raises(Refused) as refused:
        await lemo.scenarios()
    assert (refused.value.status, refused.value.reason, network.tried) == (503, "BUSY", 4)
    network.troubles, network.tried = [("before", NO_WAY)] * 9, 0
    with pytest.raises(Unreachable, match="nobody listens"):
        await lemo.scenarios()
    assert network.tried == 4


async def test_a_behaviour_that_is_sent_twice_counts_once(lemo: AsyncLemo, network: Network) -> None:
    network.troubles = [("after", LOST)]
    await lemo.track([{"user_id": "bob", "item_id": "tea-2", "type": "purchase"}], wait=True)
    assert len(network.seen) == 2
    (recent,) = (await lemo.profile("bob"))["recent"]
    assert recent["purchases"] == 1
