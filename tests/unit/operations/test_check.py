"""`lemo check`: each store is asked alone and in bounded time, and a missing one says what will not work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ray_app import wiring
from ray_app.config import Settings
from ray_app.operations import check_modules
from ray_app.operations.check import Dependency, Finding, Part, Report, check
from ray_app.operations.check_modules import packages, serve_modules
from ray_app.operations.needs import needs
from ray_app.stores.embedded import DataLock, Embedded

CLOSED = "127.0.0.1:1"
SERVED = {
    "stores": {
        "mongodb_url": f"mongodb://u:hidden@{CLOSED}",
        "redis_url": f"redis://:hidden@{CLOSED}/0",
        "milvus_url": f"http://u:hidden@{CLOSED}",
        "clickhouse_url": f"http://u:hidden@{CLOSED}",
        "blobs_url": "memory://blobs",
    },
    "events": {"kafka_url": f"kafka://u:hidden@{CLOSED}"},
}
NAMES = ["documents", "state", "vectors", "analytics", "event log", "blobs"]


def settings(data: Path, **changed: Any) -> Settings:
    return Settings.model_validate({"data": data, **changed})


def by_name(report: Report) -> dict[str, Dependency]:
    return {d.name: d for d in report.dependencies}


def fails(found: Dependency) -> list[Finding]:
    return [f for f in found.findings if f.level == "fail"]


async def test_what_is_embedded_starts_with_the_cluster_and_a_check_makes_nothing(tmp_path: Path) -> None:
    report = await wiring.inspect(settings(tmp_path / "none"), None)
    assert [d.name for d in report.dependencies] == NAMES
    assert all(d.idle and not d.reachable and not d.missing for d in report.dependencies)
    assert {f.says for d in report.dependencies for f in d.findings} == {"embedded: starts with `lemo up`"}
    assert report.ok
    assert all(role.idle and not role.without for role in report.roles)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    stores = Embedded(tmp_path / "data")
    stores.start()
    yield tmp_path / "data"
    stores.stop()


async def test_the_stores_of_a_running_cluster_are_asked(running: Path) -> None:
    assert DataLock(running).held()
    report = await wiring.inspect(settings(running), None)
    for found in report.dependencies:
        assert (found.reachable, found.authenticated, found.missing) == (True, None, False), found
        assert found.version
        assert found.round_trip_ms is not None
    assert report.ok
    assert "is not there yet: it is made at the first use" in [f.says for f in by_name(report)["event log"].findings]
    assert not any(role.without or role.idle for role in report.roles)


async def test_the_lock_of_a_folder_is_seen_and_left_as_it_was(tmp_path: Path) -> None:
    lock = DataLock(tmp_path)
    assert not lock.held()
    lock.take()
    assert lock.held()
    assert lock.held()
    lock.release()
    assert not lock.held()


@pytest.mark.long
async def test_each_store_that_is_away_is_named_with_what_will_not_work_and_what_to_do(tmp_path: Path) -> None:
    report = await wiring.inspect(settings(tmp_path, **SERVED), None)
    found = by_name(report)
    away = [name for name in NAMES if name != "blobs"]
    for name in away:
        assert found[name].missing
        (failed,) = fails(found[name])
        assert "LEMO_" in failed.do
        assert "hidden" not in f"{found[name]} {failed}"
    assert not report.ok
    assert found["blobs"].reachable
    roles = {role.name: role.without for role in report.roles}
    assert list(roles["gateway"]) == away
    assert list(roles["streams hot"]) == ["state", "event log"]
    assert set(roles["jobs"]) == {"documents", "state", "vectors", "analytics"}


async def test_a_server_that_accepts_and_says_nothing_costs_the_others_nothing(redis_url: str, tmp_path: Path) -> None:
    async with silent_server() as port:
        mute = settings(tmp_path, stores={"redis_url": f"redis://127.0.0.1:{port}/0"})
        good = settings(tmp_path, stores={"redis_url": redis_url})
        parts = [state_of(s) for s in (mute, good, mute)]
        began = time.monotonic()
        first, second, third = (await check(parts, {}, timeout_s=0.5)).dependencies
        assert time.monotonic() - began < 3.0
    assert [f.says for f in (*fails(first), *fails(third))] == ["no answer within 0.5 s"] * 2
    assert second.reachable
    assert not fails(second)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """A port that takes connections and never answers."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    for writer in held:
        writer.close()
    server.close()


def state_of(s: Settings) -> Part:
    from ray_app.operations.check_redis import RedisCheck
    from ray_app.stores.redis import connect

    url = str(s.stores.redis_url)
    return Part("state", "stores.redis_url", url, False, lambda: RedisCheck(connect(url), url), lambda r: r.ask())


class Judging:
    """A store that can do what the test says, and one of whose topics is there."""

    def __init__(self, findings: Callable[[], list[Finding | str]]) -> None:
        self._findings = findings

    def version(self) -> str:
        return "Judging 1"

    async def topics(self) -> list[str]:
        return ["there"]

    async def findings(self, topics: Collection[str]) -> list[Finding | str]:
        assert topics == ("there", "later")
        return self._findings()


async def asked(findings: Callable[[], list[Finding | str]]) -> Report:
    async def nothing(store: Any) -> None: ...

    part = Part("log", "events.kafka_url", "x://u@h", False, lambda: Judging(findings), nothing, ("there", "later"))
    return await check([part], {"role": {"log": "it stands still"}})


async def test_a_store_that_judges_itself_is_believed_and_a_text_of_its_is_a_warning() -> None:
    report = await asked(lambda: [Finding("fail", "disk", "is full"), "topic t has 1 partition"])
    (found,) = report.dependencies
    assert (found.version, found.authenticated, found.missing) == ("Judging 1", True, False)
    assert [(f.level, f.about) for f in found.findings] == [("ok", "topic later"), ("fail", "disk"), ("warn", "log")]
    assert not report.ok
    assert report.roles[0].without == {}


async def test_a_check_that_is_cancelled_closes_what_it_opened() -> None:
    asked_it, closed = asyncio.Event(), asyncio.Event()

    class Silent:
        async def version(self) -> str:
            asked_it.set()
            await asyncio.Event().wait()
            return ""

        async def close(self) -> None:
            closed.set()

    part = Part("log", "events.kafka_url", "x://h", False, Silent, lambda store: store.version())
    checking = asyncio.create_task(check([part], {}))
    await asyncio.wait_for(asked_it.wait(), 5)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert closed.is_set()


async def test_a_judgement_that_fails_is_a_finding_and_the_rest_stays_known() -> None:
    def broken() -> list[Finding | str]:
        raise KeyError("no such field")

    (found,) = (await asked(broken)).dependencies
    assert found.reachable
    assert fails(found)[0].says == "Judging 1: KeyError: 'no such field'"


def test_every_role_needs_only_stores_that_are_asked() -> None:
    from ray_app.operations.check_stores import ASKS, SETTINGS

    found = needs(("items", "hot"))
    assert list(found) == ["gateway", "streams items", "streams hot", "jobs", "scheduler"]
    assert {name for needed in found.values() for name in needed} <= set(SETTINGS) == set(ASKS)


def test_modules_of_a_serve_file_are_imported() -> None:
    config = {
        "grpc_options": {"grpc_servicer_functions": ["grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server"]},
        "applications": [
            {"import_path": "ray_app.wiring:build", "deployments": [{"autoscaling_config": {"policy": {
                "policy_function": "ray_app.streams.scaling:ByLag"}}}]},
            {"import_path": "ray_app.wiring:absent"},
            {"import_path": "no_such_module:app"},
        ],
    }  # fmt: skip
    found = {f.about: f for f in serve_modules(config)}
    assert [f.level for f in found.values()] == ["ok", "ok", "ok", "fail", "fail"]
    assert "absent" in found["ray_app.wiring:absent"].says
    assert "No module named 'no_such_module'" in found["no_such_module:app"].says
    assert serve_modules(None) == []


def test_a_url_names_the_package_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {"stores.mongodb_url": "mongodb://h", "events.kafka_url": None, "stores.blobs_url": "s3://b"}
    assert [(f.about, f.level) for f in packages(urls)] == [("pymongo", "ok"), ("s3", "ok")]
    monkeypatch.setitem(check_modules.PACKAGES, "stores.mongodb_url", "no_such_package")
    missing, unknown = packages({**urls, "stores.blobs_url": "nowhere://b"})
    assert (missing.level, missing.do) == ("fail", "pip install 'lemo[served]'")
    assert "nowhere" in unknown.says
