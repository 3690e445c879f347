"""Slates are logged behind the answer, in order, and wait while the log is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ray_app.clock import FixedClock
from ray_app.events.base import Appended, Entry
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


async def test_two_flushes_at_once_write_each_slate_once(log: MemoryLog) -> None:
    slates = Slates(log, "slates")
    for n in range(3):
        slates.put(slate(n))
    await asyncio.gather(slates.flush(), slates.flush())
    assert await written(log) == ["r0", "r1", "r2"]
    await slates.close()


async def test_a_close_waits_for_the_batch_that_is_being_written(clock: FixedClock) -> None:
    class Slow(MemoryLog):
        appended, answered = asyncio.Event(), asyncio.Event()

        async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
            found = await super().append(topic, entries)
            self.appended.set()
            await self.answered.wait()
            return found

    log = Slow(1, clock)
    slates = Slates(log, "slates")
    slates.put(slate(1))
    await log.appended.wait()
    closing = asyncio.create_task(slates.close())
    await asyncio.sleep(0)
    log.answered.set()
    await closing
    assert await written(log) == ["r1"]


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


async def test_an_error_of_ours_ends_nothing_and_a_slate_that_cannot_be_written_holds_up_none(
    clock: FixedClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(MemoryLog):
        left = 1

        async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
            if self.left:
                self.left -= 1
                raise ZeroDivisionError("a bug")
            return await super().append(topic, entries)

    monkeypatch.setattr("ray_app.serving.slates.AGAIN_S", 0.01)
    log = Fails(1, clock)
    slates = Slates(log, "slates")
    broken = Slate("r2", "t", "home", "u:1", NOW, (object(),))  # type: ignore[arg-type]
    for one in (slate(1), broken, slate(3)):
        slates.put(one)
    async with asyncio.timeout(10):
        while len(found := await log.read("slates", 0, 0, 10, wait_s=1)) < 2:
            pass
    assert [read_slate(e.body).request_id for e in found] == ["r1", "r3"]
    assert "slates cannot be written; they are tried again" in caplog.text
    assert "a slate cannot be written and is left out" in caplog.text
    await slates.close()
