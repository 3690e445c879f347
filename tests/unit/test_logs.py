"""Structured logs: one JSON object a line."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from ray_app import logs


class Lines:
    """A logger with our format, and what it wrote."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        self.logger = logging.Logger("ray_app.some.part")
        handler = logging.StreamHandler(self._out)
        handler.setFormatter(logs.JsonLines())
        self.logger.addHandler(handler)

    def read(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self._out.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def outside_of_a_request() -> None:
    logs.request_id.set("")
    logs.tenant.set("")


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def our_logger() -> Iterator[logging.Logger]:
    """`ray_app` as the process found it, also after the test."""
    logger = logging.getLogger("ray_app")
    before = logger.level, list(logger.handlers), logger.propagate
    logger.handlers.clear()
    logger.propagate = True
    yield logger
    logger.setLevel(before[0])
    logger.handlers[:], logger.propagate = before[1], before[2]


def test_a_line_has_time_level_logger_message_and_what_was_added(lines: Lines) -> None:
    lines.logger.warning("the log of %s is away\nsince now", "t", extra={"flow": "hot", "position": 7})
    (line,) = lines.read()
    at = line.pop("at")
    assert line == {
        "level": "WARNING", "logger": "ray_app.some.part", "message": "the log of t is away\nsince now",
        "flow": "hot", "position": 7,
    }  # fmt: skip
    assert 1_700_000_000_000 < at < 10**14


async def test_each_request_has_its_own_id_and_tenant(lines: Lines) -> None:
    async def one(n: int) -> None:
        logs.request_id.set(f"r{n}")
        logs.tenant.set(f"t{n}")
        await asyncio.sleep(0)
        lines.logger.error("failed", extra={"n": n})

    await asyncio.gather(*(asyncio.create_task(one(n)) for n in range(5)))
    assert {(e["n"], e["request_id"], e["tenant"]) for e in lines.read()} == {(n, f"r{n}", f"t{n}") for n in range(5)}


def test_an_exception_is_one_line_with_its_trace(lines: Lines) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        lines.logger.exception("it failed")
    (line,) = lines.read()
    assert line["error"].startswith("Traceback")
    assert line["error"].endswith("ValueError: wrong")


@pytest.mark.parametrize("value", ["a\ud800b", 2**70, {1: 2}, object(), {"x"}, b"bytes", float("nan")])
def test_what_json_cannot_hold_costs_no_line(lines: Lines, value: object) -> None:
    lines.logger.warning("value", extra={"value": value})
    assert [line["message"] for line in lines.read()] == ["value"]


def test_lines_go_where_the_process_began_to_write_errors(
    our_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve puts in the place of sys.stderr what keeps lines in memory."""
    real, instead = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.__stderr__", real)
    monkeypatch.setattr("sys.stderr", instead)
    logs.start("INFO")
    logging.getLogger("ray_app.some.part").warning("away")
    assert (orjson.loads(real.getvalue())["message"], instead.getvalue()) == ("away", "")


def test_a_second_start_changes_only_the_level(our_logger: logging.Logger) -> None:
    logs.start("INFO")
    logs.start("ERROR")
    assert len(our_logger.handlers) == 1
    assert (our_logger.level, our_logger.propagate) == (logging.ERROR, False)
