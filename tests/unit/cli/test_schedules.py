"""`lemo schedule` on a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from celery.schedules import crontab
from click.testing import Result
from typer.testing import CliRunner

from ray_app.cli import app
from tests.schedules_world import HANDLERS
from tests.unit.operations.test_redbeat import Beat

Lemo = Callable[..., Result]


@pytest.fixture
def lemo(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lemo:
    monkeypatch.setattr("ray_app.wiring.handlers.HANDLERS", HANDLERS)
    env = {"LEMO_STORES_REDIS_URL": redis_url, "LEMO_STORES_CLICKHOUSE_URL": "http://127.0.0.1:9", "COLUMNS": "160"}

    def run(*line: str) -> Result:
        return CliRunner().invoke(app, ["schedule", *line], env={**env, "LEMO_DATA": str(tmp_path / "data")})

    return run


def test_a_schedule_is_put_shown_paused_triggered_and_deleted(lemo: Lemo) -> None:
    put = lemo("put", "night", "handler=works", "cron=30 2 * * *", "zone=Europe/London", 'argument={"n": 1}')
    assert (put.exit_code, orjson.loads(put.stdout)["argument"]) == (0, {"n": 1})
    assert "30 2 * * *" in lemo("list").stdout
    assert lemo("pause", "night", "--note", "a holiday").stdout == "night is paused\n"
    (line,) = lemo("list", "--json").stdout.splitlines()
    assert (orjson.loads(line)["paused"], orjson.loads(line)["why"]) == (True, "a holiday")
    assert lemo("resume", "night").stdout == "night runs\n"
    assert lemo("trigger", "night").stdout.startswith("night@")
    shown = orjson.loads(lemo("show", "night").stdout)
    assert (len(shown["preview"]), [e["why"] for e in shown["ledger"]]) == (5, ["triggered"])
    assert lemo("delete", "night").exit_code == 0
    assert lemo("list", "--json").stdout.strip() == ""


def test_a_backfill_says_what_starts(lemo: Lemo) -> None:
    lemo("put", "day", "handler=works", "cron=0 0 * * *")
    done = lemo("backfill", "day", "2026-01-01", "2026-01-03T12:00:00")
    assert done.stdout.splitlines() == [f"day@2026-01-0{k}T00:00:00Z" for k in (1, 2, 3)] + [
        "3 start, 0 had run already"
    ]
    assert lemo("backfill", "day", "2026-01-01", "2026-01-04", "--at-once").stdout.endswith(
        "1 start, 3 had run already\n"
    )


def test_next_runs_of_what_is_not_written(lemo: Lemo) -> None:
    done = lemo("preview", "every_s=3600", "zone=Asia/Kathmandu", "-n", "2")
    assert [line.split()[1][-6:] for line in done.stdout.splitlines()] == ["+05:45", "+05:45"]


TOML = """
[[schedules]]
id = "a"
handler = "works"
cron = "0 3 * * *"

[[schedules]]
id = "b"
handler = "works"
every_s = 60
"""


def test_a_file_is_written_whole_or_not_at_all(lemo: Lemo, tmp_path: Path) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text(TOML + '[[schedules]]\nid = "c"\nhandler = "nobody"\nevery_s = 60\n')
    refused = lemo("import", str(file))
    assert refused.exit_code == 1
    assert "'nobody' is unknown" in str(refused.exception)
    assert lemo("list", "--json").stdout.strip() == ""
    file.write_text(TOML)
    assert lemo("import", str(file)).stdout == "a: written\nb: written\n"
    assert "a: it exists; --replace writes it" in lemo("import", str(file)).stdout


def test_a_list_is_a_file_that_can_be_imported(lemo: Lemo, tmp_path: Path) -> None:
    lemo("put", "a", "handler=works", "every_s=60", "overlap=allow", "paused=true")
    lines = [orjson.loads(line) for line in lemo("list", "--json").stdout.splitlines()]
    file = tmp_path / "kept.json"
    file.write_bytes(orjson.dumps({"schedules": lines}))
    lemo("delete", "a")
    assert lemo("import", str(file)).stdout == "a: written\n"
    (line,) = lemo("list", "--json").stdout.splitlines()
    assert {k: v for k, v in orjson.loads(line).items() if k != "next"} == {
        k: v for k, v in lines[0].items() if k != "next"
    }


def test_redbeat_entries_are_imported_and_what_is_skipped_says_why(lemo: Lemo, redis_url: str) -> None:
    beat = Beat(redis_url)
    beat.save("nightly", crontab(hour=3, minute=0))
    beat.save("strange", crontab(), task="gone.thing")
    beat.save("urgent", crontab(), options={"queue": "celery", "priority": 3, "expires": 60})
    beat.close()
    done = lemo("import", "--redbeat", redis_url, "--zone", "Europe/London")
    assert done.stdout.splitlines()[0].startswith("strange: skipped: task 'gone.thing' is unknown")
    left = "queue='celery', priority=3, expires=60"
    assert done.stdout.splitlines()[1:] == [
        f"urgent: not taken over: {left}", "nightly: written", "urgent: written",
    ]  # fmt: skip
    line, other = lemo("list", "--json").stdout.splitlines()
    assert (orjson.loads(line)["cron"], orjson.loads(line)["zone"]) == ("0 3 * * *", "Europe/London")
    assert orjson.loads(other)["note"] == f"from RedBeat entry urgent, without {left}"


@pytest.mark.parametrize("line", [("import",), ("import", "a.toml", "--redbeat", "redis://h"), ("put", "a", "handler")])
def test_what_cannot_be_asked(lemo: Lemo, line: tuple[str, ...]) -> None:
    assert lemo(*line).exit_code == 1
