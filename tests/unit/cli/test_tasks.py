"""`lemo task`, with a real Redis and a real worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from ray_app.cli import app
from ray_app.errors import InvalidField, LemoError, NotFound
from tests.crash.handlers import HANDLERS
from tests.tasks_world import NOBODY, TasksWorld, settings_of

Lemo = Callable[..., str]


@pytest.fixture
def lemo(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lemo:
    monkeypatch.setattr("ray_app.wiring.handlers.HANDLERS", HANDLERS)
    env = {
        "LEMO_DATA": str(tmp_path), "LEMO_STORES_REDIS_URL": redis_url, "LEMO_STORES_CLICKHOUSE_URL": NOBODY,
        "COLUMNS": "200",
    }  # fmt: skip

    def run(*line: str, fails: type[LemoError] | None = None) -> str:
        done = CliRunner().invoke(app, ["task", *line], env=env)
        if fails is not None:
            assert isinstance(done.exception, fails), done.output
            return done.exception.message
        assert done.exception is None, done.output
        return done.output.strip()

    return run


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[None]:
    world = TasksWorld(settings_of(redis_url, tmp_path), HANDLERS)
    world.start_worker()
    yield
    asyncio.run(world.close())


def lines(text: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in text.splitlines()]


def soon(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := what()):
        assert time.monotonic() < deadline, "not true within 20 s"
        time.sleep(0.05)  # a poll of another process, not a race
    return found


@pytest.mark.usefixtures("worker")
@pytest.mark.long
def test_a_task_is_submitted_waited_for_and_listed(lemo: Lemo) -> None:
    id = lemo("submit", "talk", "{}")
    assert lemo("wait", id, "--timeout-s", "30") == "null"
    whole = orjson.loads(lemo("get", id))
    assert (whole["state"], whole["log"]) == ("SUCCESS", ["line 1", "line 2", "line 3"])
    failed = lemo("submit", "picky", '{"value": "fail"}', "--tenant", "demo")
    assert "Fail: it will never do" in lemo("wait", failed, fails=LemoError)
    assert [t["id"] for t in lines(lemo("list", "--state", "FAILURE", "--json"))] == [failed]
    assert [t["id"] for t in lines(lemo("list", "--tenant", "demo", "--json"))] == [failed]
    assert [t["id"] for t in lines(lemo("dead", "--json"))] == [failed]
    assert lemo("replay", failed) == "1 tasks begin again"
    lemo("wait", failed, fails=LemoError)
    assert lemo("drop", "--all") == "1 tasks are forgotten"
    assert lemo("dead", "--json") == ""
    lemo("get", failed, fails=NotFound)


@pytest.mark.usefixtures("worker")
@pytest.mark.long
def test_workers_queues_and_pools_are_seen_and_steered(lemo: Lemo) -> None:
    soon(lambda: "of pool general: 2 slots" in _quiet(lemo, "ping"))
    id = lemo("submit", "nap", '{"seconds": 100}')
    assert soon(lambda: lines(lemo("active", "--json")))[0]["id"] == id
    assert id in lemo("active")
    assert "PENDING" not in lemo("cancel", id)
    soon(lambda: orjson.loads(lemo("get", id))["state"] == "REVOKED")
    lemo("pool", "general", "--pause", "--slots", "3", "--queues", "default:2", "--replicas", "4", "--restart")
    (shown,) = lines(lemo("pools", "--json"))
    assert (shown["slots"], shown["paused"], shown["queues"], shown["replicas"]) == (3, True, {"default": 2}, 4)
    waiting = lemo("submit", "noop")
    assert [(x["queue"], x["length"]) for x in lines(lemo("queues", "--json")) if x["length"]] == [("default", 1)]
    lemo("pool", "general", "--resume", "--slots", "0", "--queues", "settings", "--replicas", "0")
    lemo("wait", waiting, "--timeout-s", "30")
    (back,) = lines(lemo("pools", "--json"))
    assert (back["slots"], back["paused"], back["queues"]["bulk"], back["replicas"]) == (2, False, 1, 0)
    later = lemo("submit", "noop", "--countdown-s", "1000")
    assert [t["id"] for t in lines(lemo("scheduled", "--json"))] == [later]
    told = orjson.loads(lemo("stats"))
    assert (told["delayed"], told["handlers"]["nap"]["REVOKED"]) == (1, 1)


def _quiet(lemo: Lemo, *line: str) -> str:
    try:
        return lemo(*line)
    except AssertionError:
        return ""


def test_what_is_not_there_is_told_with_what_to_do(lemo: Lemo) -> None:
    assert "lemo up" in lemo("ping", fails=NotFound)
    assert "Known: general" in lemo("pool", "other", "--pause", fails=NotFound)
    assert "Known: add" in lemo("submit", "nobody", fails=NotFound)
    assert "a JSON object" in lemo("submit", "noop", "[1]", fails=InvalidField)
    assert "--all" in lemo("replay", fails=InvalidField)
    assert "PENDING" in lemo("list", "--state", "LOST", fails=InvalidField)


def test_handlers_are_listed_with_their_old_names(lemo: Lemo) -> None:
    found = {h["name"]: h for h in lines(lemo("registered", "--json"))}
    assert found["nap"]["aliases"] == ["old.tasks.nap"]
    assert set(found) == {h.name for h in HANDLERS}
