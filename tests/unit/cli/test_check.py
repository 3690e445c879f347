"""`lemo check` as a script sees it: exit status, JSON, and a table for people; no password in any of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from ray_app.cli import app
from tests.services.redis import DEBIAN, DURABLE, RedisPeer

LEMO = Path(sys.executable).parent / "lemo"
CLOSED = "redis://:hidden@127.0.0.1:1/0"


def lemo(data: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEMO_")}
    line = [str(LEMO), "check", *arguments]
    return subprocess.run(
        line, env={**inherited, "LEMO_DATA": str(data), "COLUMNS": "120", **env}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisPeer(tmp_path_factory.mktemp("redis"), DEBIAN, (*DURABLE, "--requirepass", "hidden"), database=2)
    server.start()
    yield server.url.replace("//", "//:hidden@")
    server.kill()


@pytest.mark.long
def test_on_a_laptop_before_the_first_start_nothing_fails(tmp_path: Path) -> None:
    done = lemo(tmp_path / "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("starts with `lemo up`") >= 6
    assert "nothing fails" in done.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.long
def test_a_served_redis_is_shown_with_version_login_and_round_trip(tmp_path: Path, good: str) -> None:
    done = lemo(tmp_path, "--json", LEMO_STORES_REDIS_URL=good)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = orjson.loads(done.stdout)
    state = next(d for d in said["dependencies"] if d["name"] == "state")
    assert (said["ok"], state["reachable"], state["authenticated"], state["embedded"]) == (True, True, True, False)
    assert state["version"].startswith("Redis ")
    assert state["round_trip_ms"] > 0
    assert {f["about"]: f["level"] for f in state["findings"]}["maxmemory"] == "warn"
    assert {m["about"]: m["level"] for m in said["modules"]}["ray_app.wiring:build"] == "ok"
    assert [role["name"] for role in said["roles"]][:: len(said["roles"]) - 1] == ["gateway", "scheduler"]
    assert "hidden" not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_store_that_is_away_is_exit_status_1(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = lemo(tmp_path, *arguments, LEMO_STORES_REDIS_URL=CLOSED)
    assert (done.returncode, done.stderr) == (1, "")
    assert "127.0.0.1:1" in done.stdout
    assert "LEMO_STORES_REDIS_URL" in done.stdout
    assert "profiles are empty" in done.stdout
    assert "hidden" not in done.stdout


@pytest.mark.long
def test_a_module_that_is_not_there_is_exit_status_1(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("applications: [{import_path: 'no_such_module:app'}]\n")
    done = lemo(tmp_path / "data", "--serve-config", str(file))
    assert done.returncode == 1
    assert "no_such_module" in done.stdout


@pytest.mark.parametrize("arguments", [("--jason",), ("--serve-config", "no-such-file.yaml"), ("more",)])
def test_a_wrong_command_line_is_exit_status_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["check", *arguments]).exit_code == 2


@pytest.mark.long
def test_settings_that_cannot_be_read_are_exit_status_1_and_named(tmp_path: Path) -> None:
    done = lemo(tmp_path, LEMO_STORES_REDIS_URL="redis+cluster://:hidden@h")
    assert (done.returncode, "many slots" in done.stderr, "hidden" in done.stderr) == (1, True, False)


def test_json_is_json_also_where_the_settings_cannot_be_read() -> None:
    done = CliRunner().invoke(app, ["check", "--json"], env={"LEMO_STORES_REDIS_URL": "redis+cluster://:hidden@h"})
    said = orjson.loads(done.stdout)
    assert (done.exit_code, said["ok"], said["key"]) == (1, False, "stores.redis_url")


@pytest.mark.long
def test_a_server_that_answers_nothing_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    """A client of analytics waits 30 s in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        done = lemo(tmp_path, LEMO_STORES_CLICKHOUSE_URL=f"http://127.0.0.1:{mute.getsockname()[1]}")
    assert (done.returncode, "no answer within 5 s" in done.stdout) == (1, True)
    assert time.monotonic() - began < 15


@pytest.mark.long
def test_a_serve_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [")
    done = lemo(tmp_path, "--serve-config", str(tmp_path / "x.yaml"))
    assert (done.returncode, "x.yaml" in done.stderr) == (1, True)
