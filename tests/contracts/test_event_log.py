"""The port EventLog, held by every adapter."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ray_app.clock import FixedClock
from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Entry, EventLog, PositionLost, partition_of
from ray_app.events.memory import MemoryLog
from ray_app.events.sqlite import SqliteLog

KEEP_S = 3600
LONG_S = 30.0  # a wait that must end by an append: a lost wake-up shows as a failure and not as a late success
ADAPTERS: dict[str, Callable[[Path, FixedClock], EventLog]] = {
    "memory": lambda folder, clock: MemoryLog(4, clock),
    "sqlite": lambda folder, clock: SqliteLog(folder / "deep" / "events.db", 4, clock, KEEP_S),
}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_000_000_000)


@pytest.fixture(params=ADAPTERS)
async def log(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> AsyncIterator[EventLog]:
    opened = ADAPTERS[request.param](tmp_path, clock)
    yield opened
    await opened.close()


def entries(n: int, keys: int = 7) -> list[Entry]:
    return [Entry(f"k{k % keys}", b"%d" % k) for k in range(n)]


async def forget(log: EventLog, clock: FixedClock, topic: str) -> list[Appended]:
    """Everything of `topic` grows too old, and one entry of key k0 is young."""
    if isinstance(log, MemoryLog):
        for p in range(4):
            log.forget(topic, p, await log.end(topic, p))
        return await log.append(topic, [Entry("k0", b"young")])
    clock.pass_s(KEEP_S + 1)
    appended = [(await log.append(topic, [Entry("k0", b"young")]))[0] for _ in range(256)]  # it looks now and then
    return appended[:1]


async def test_what_is_appended_is_read_as_it_was(log: EventLog, clock: FixedClock) -> None:
    body = bytes(range(256)) * 4
    (at,) = await log.append("t", [Entry("ключ/ü", body)])
    (found,) = await log.read("t", at.partition, at.position, 10)
    assert (found.topic, found.partition, found.position) == ("t", at.partition, at.position)
    assert (found.key, found.body, found.appended_at) == ("ключ/ü", body, clock.now())


async def test_an_append_of_nothing_is_nothing(log: EventLog) -> None:
    assert await log.append("t", []) == []
    assert [await log.end("t", p) for p in range(4)] == [0, 0, 0, 0]


async def test_positions_are_dense_from_zero_and_one_key_keeps_its_order(log: EventLog) -> None:
    given = entries(2_500)
    appended = await log.append("t", given[:1_700]) + await log.append("t", given[1_700:])
    by_key: dict[str, list[int]] = defaultdict(list)
    for p in range(await log.partitions("t")):
        held = await log.read("t", p, 0, 10_000)
        assert [e.position for e in held] == list(range(await log.end("t", p)))
        for e in held:
            by_key[e.key].append(int(e.body))
    assert by_key == {f"k{k}": list(range(k, 2_500, 7)) for k in range(7)}
    assert [a.partition for a in appended] == [partition_of(e.key, 4) for e in given]
    assert len({(a.partition, a.position) for a in appended}) == 2_500


async def test_there_are_at_least_four_partitions_and_all_are_used(log: EventLog) -> None:
    used = {a.partition for a in await log.append("t", entries(100, keys=100))}
    assert used == set(range(await log.partitions("t")))
    assert len(used) >= 4


async def test_topics_are_apart(log: EventLog) -> None:
    (a,) = await log.append("t", [Entry("k", b"1")])
    (b,) = await log.append("u", [Entry("k", b"2")])
    assert (a.position, b.position) == (0, 0)
    assert [e.body for e in await log.read("u", b.partition, 0, 10)] == [b"2"]


async def test_appended_at_never_goes_back_when_the_clock_does(log: EventLog, clock: FixedClock) -> None:
    for step in (0, -5, 3, -100, 50):
        clock.pass_s(step)
        await log.append("t", [Entry("k", b"")])
    times = [e.appended_at for e in await log.read("t", partition_of("k", 4), 0, 10)]
    assert times == [1_000_000_000] * 5
    clock.pass_s(1_000)
    (at,) = await log.append("t", [Entry("k", b"")])
    assert (await log.read("t", at.partition, at.position, 1))[0].appended_at == clock.now()


@pytest.mark.parametrize(("position", "limit", "expected"), [
    (0, 3, [0, 1, 2]), (4, 3, [4, 5, 6]), (8, 5, [8, 9]), (10, 5, []), (99, 5, []),
])  # fmt: skip
async def test_a_read_begins_at_the_position_and_ends_at_the_limit(
    log: EventLog, position: int, limit: int, expected: list[int]
) -> None:
    await log.append("t", entries(10, keys=1))
    found = await log.read("t", partition_of("k0", 4), position, limit)
    assert [e.position for e in found] == expected


async def test_a_read_at_the_end_waits_no_longer_than_asked(log: EventLog) -> None:
    began = asyncio.get_running_loop().time()
    assert await log.read("t", 0, 0, 10, wait_s=0.05) == []
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_a_waiting_read_is_woken_by_an_append(log: EventLog) -> None:
    waiting = asyncio.create_task(log.read("t", partition_of("k", 4), 0, 10, wait_s=LONG_S))
    for _ in range(10):  # it begins to wait
        await asyncio.sleep(0)
    other = next(k for k in "abcdef" if partition_of(k, 4) != partition_of("k", 4))
    await log.append("t", [Entry(other, b"elsewhere")])
    await log.append("t", [Entry("k", b"here")])
    found = await asyncio.wait_for(waiting, LONG_S / 3)
    assert [e.body for e in found] == [b"here"]


async def test_a_position_that_retention_removed_is_lost_by_name(log: EventLog, clock: FixedClock) -> None:
    await log.append("t", entries(40, keys=1))
    partition = partition_of("k0", 4)
    (young,) = await forget(log, clock, "t")
    assert young.position == 40  # positions go on where they were
    with pytest.raises(PositionLost, match="the first that is left is 40") as lost:
        await log.read("t", partition, 7, 10)
    assert lost.value.first == await log.first("t", partition) == 40
    assert (await log.read("t", partition, 40, 1))[0].body == b"young"


async def test_retention_that_leaves_nothing_keeps_the_end(log: EventLog, clock: FixedClock) -> None:
    other = next(f"o{n}" for n in range(99) if partition_of(f"o{n}", 4) != partition_of("k0", 4))
    await log.append("t", [Entry(other, b"")] * 5)
    await forget(log, clock, "t")
    partition = partition_of(other, 4)
    assert await log.first("t", partition) == await log.end("t", partition) == 5
    assert await log.read("t", partition, 5, 10) == []
    with pytest.raises(PositionLost):
        await log.read("t", partition, 4, 10)


async def test_sqlite_retains_every_topic_also_when_they_alternate(tmp_path: Path, clock: FixedClock) -> None:
    log = SqliteLog(tmp_path / "e.db", 4, clock, KEEP_S)
    for topic in ("a", "b"):
        await log.append(topic, [Entry("k", b"old")])
    clock.pass_s(KEEP_S + 1)
    for _ in range(256):
        for topic in ("a", "b"):
            await log.append(topic, [Entry("k", b"young")])
    assert [await log.first(t, partition_of("k", 4)) for t in ("a", "b")] == [1, 1]
    await log.close()


async def test_a_group_is_told_its_positions(log: EventLog) -> None:
    assert await log.told("g", "t", 1) == 0
    await log.tell_group("g", "t", 1, 7)
    await log.tell_group("g", "t", 1, 9)
    await log.tell_group("h", "t", 1, 3)
    assert [await log.told(*where) for where in (("g", "t", 1), ("h", "t", 1), ("g", "t", 2), ("g", "u", 1))] == [
        9, 3, 0, 0,
    ]  # fmt: skip


async def test_a_body_of_a_megabyte(log: EventLog) -> None:
    body = bytes(1_000_000) + b"end"
    (at,) = await log.append("t", [Entry("k", body)])
    assert (await log.read("t", at.partition, at.position, 1))[0].body == body


async def test_a_log_that_is_away_acknowledges_nothing_and_comes_back(clock: FixedClock) -> None:
    log = MemoryLog(4, clock)
    log.away = True
    with pytest.raises(Unavailable, match="nothing was written"):
        await log.append("t", [Entry("k", b"")])
    log.away = False
    assert await log.end("t", partition_of("k", 4)) == 0
    await log.append("t", [Entry("k", b"")])
    assert await log.end("t", partition_of("k", 4)) == 1


async def test_a_file_that_is_no_log_is_unavailable_and_then_recovers(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "e.db").write_bytes(b"no database at all, and long enough to be looked at" * 100)
    log = SqliteLog(tmp_path / "e.db", 4, clock)
    with pytest.raises(Unavailable, match=r"e\.db .*Nothing was written"):
        await log.append("t", [Entry("k", b"")])
    (tmp_path / "e.db").unlink()
    assert (await log.append("t", [Entry("k", b"")]))[0].position == 0
    await log.close()


async def test_a_folder_that_cannot_be_made_is_unavailable_and_then_recovers(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    log = SqliteLog(tmp_path / "data" / "e.db", 4, clock)
    with pytest.raises(Unavailable, match=r"e\.db"):
        await log.append("t", [Entry("k", b"")])
    (tmp_path / "data").unlink()
    assert (await log.append("t", [Entry("k", b"")]))[0].position == 0
    await log.close()


async def test_sqlite_keeps_its_entries_between_openings(tmp_path: Path, clock: FixedClock) -> None:
    for n in range(3):
        log = SqliteLog(tmp_path / "e.db", 4, clock)
        assert (await log.append("t", [Entry("k", b"")]))[0].position == n
        await log.close()


APPENDER = """
import asyncio, pathlib, sys
from ray_app.clock import SystemClock
from ray_app.events.base import Entry
from ray_app.events.sqlite import SqliteLog

async def work(path, writer):
    log = SqliteLog(pathlib.Path(path), 4, SystemClock(), 3600)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(20):
        await log.append("t", [Entry(f"{writer}/{k}", b"%d" % (n * 50 + k)) for k in range(50)])
    await log.close()

asyncio.run(work(sys.argv[1], int(sys.argv[2])))
"""


async def test_several_processes_append_to_one_file(
    tmp_path: Path, clock: FixedClock, run_at_once: Callable[..., None]
) -> None:
    """They open it at the same moment, before it exists."""
    run_at_once(APPENDER, tmp_path / "e.db", writers=4)
    log = SqliteLog(tmp_path / "e.db", 4, clock)
    held = [e for p in range(4) for e in await log.read("t", p, 0, 10_000)]
    assert Counter(e.partition for e in held) == {p: await log.end("t", p) for p in range(4)}
    by_key: dict[str, list[int]] = defaultdict(list)
    for e in held:
        by_key[e.key].append(int(e.body))
    assert by_key == {f"{w}/{k}": [n * 50 + k for n in range(20)] for w in range(4) for k in range(50)}
    await log.close()
