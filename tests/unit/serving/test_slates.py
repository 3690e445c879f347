"""Slates are logged behind the answer, in order, and wait while the log is away."""

from __future__ import annotations

import pytest

from ray_app.clock import FixedClock
from ray_app.events.memory import MemoryLog
from ray_app.events.schema import read_slate
from ray_app.serving.slates import BATCH, Slates
from ray_app.types import Slate
from tests.unit.make import NOW


def slate(n: int) -> Slate:
    return Slate(f"r{n}", "t", "home", "u:1", NOW, ())


@pytest.fixture
def log(clock: FixedClock) -> MemoryLog:
    return MemoryLog(1, clock)


async def written(log: MemoryLog) -> list[str]:
    return [read_slate(e.body).request_id for e in await log.read("slates", 0, 0, 10**6)]


async def test_what_was_put_is_in_the_log_after_a_flush_once_and_in_order(log: MemoryLog) -> None:
    slates = Slates(log, "slates")
    expected = [f"r{n}" for n in range(BATCH + 3)]
    for n in range(BATCH + 3):
        slates.put(slate(n))
    await slates.flush()
    await slates.flush()
    assert await written(log) == expected
    await slates.close()
    assert await written(log) == expected


async def test_slates_are_written_without_a_flush_too(log: MemoryLog) -> None:
    slates = Slates(log, "slates")
    slates.put(slate(1))
    assert len(await log.read("slates", 0, 0, 10, wait_s=10)) == 1
    await slates.close()


async def test_they_wait_while_the_log_is_away_and_are_written_at_the_end(log: MemoryLog) -> None:
    slates = Slates(log, "slates")
    log.away = True
    slates.put(slate(1))
    with pytest.raises(Exception, match="away"):
        await slates.flush()
    log.away = False
    slates.put(slate(2))
    await slates.close()
    assert await written(log) == ["r1", "r2"]


async def test_what_does_not_fit_is_dropped_and_counted(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_app.serving.slates.MOST_WAITING", 5)
    slates = Slates(log, "slates")
    log.away = True
    for n in range(8):
        slates.put(slate(n))
    assert slates.dropped == 3
    log.away = False
    await slates.close()
    assert await written(log) == [f"r{n}" for n in range(5)]
