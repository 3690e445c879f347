"""The port EventLog, held by every adapter."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ray_app.clock import FixedClock, SystemClock, new_id
from ray_app.errors import Unavailable
from ray_app.events.base import Entry, EventLog, PositionLost, partition_of
from ray_app.events.kafka import KafkaLog
from ray_app.events.memory import MemoryLog
from ray_app.events.sqlite import SqliteLog
from tests.contracts.logs import EMBEDDED, KEEP_S, SERVED, Logs
from tests.services.kafka import VERSION

LONG_S = 30.0  # a wait that must end by an append: a lost wake-up shows as a failure and not as a late success


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_000_000_000)


@pytest.fixture(params=[*EMBEDDED, *SERVED])
def logs(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> Logs:
    return Logs(request.param, tmp_path, request, clock)


@pytest.fixture
async def log(logs: Logs) -> AsyncIterator[EventLog]:
    opened = logs.open()
    yield opened
    await opened.close()


@pytest.fixture(params=EMBEDDED)
async def embedded(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> AsyncIterator[EventLog]:
    """Those that take the time from our clock."""
    opened = Logs(request.param, tmp_path, request, clock).open()
    yield opened
    await opened.close()


@pytest.fixture
def topic() -> str:
    """One broker serves all tests."""
    return f"t-{new_id()}"


def entries(n: int, keys: int = 7) -> list[Entry]:
    return [Entry(f"k{k % keys}", b"%d" % k) for k in range(n)]


async def test_what_is_appended_is_read_as_it_was(log: EventLog, topic: str, clock: FixedClock) -> None:
    body = bytes(range(256)) * 4
    (at,) = await log.append(topic, [Entry("ключ/ü", body)])
    (found,) = await log.read(topic, at.partition, at.position, 10)
    assert (found.topic, found.partition, found.position) == (topic, at.partition, at.position)
    assert (found.key, found.body) == ("ключ/ü", body)
    wanted, within = (SystemClock().now(), 60_000) if isinstance(log, KafkaLog) else (clock.now(), 0)
    assert abs(found.appended_at - wanted) <= within


async def test_an_append_of_nothing_is_nothing(log: EventLog, topic: str) -> None:
    assert await log.append(topic, []) == []
    assert [await log.end(topic, p) for p in range(4)] == [0, 0, 0, 0]


async def test_positions_are_dense_from_zero_and_one_key_keeps_its_order(log: EventLog, topic: str) -> None:
    given = entries(2_500)
    appended = await log.append(topic, given[:1_700]) + await log.append(topic, given[1_700:])
    by_key: dict[str, list[int]] = defaultdict(list)
    for p in range(await log.partitions(topic)):
        held = await log.read(topic, p, 0, 10_000)
        assert [e.position for e in held] == list(range(await log.end(topic, p)))
        for e in held:
            by_key[e.key].append(int(e.body))
    assert by_key == {f"k{k}": list(range(k, 2_500, 7)) for k in range(7)}
    assert [a.partition for a in appended] == [partition_of(e.key, 4) for e in given]
    assert len({(a.partition, a.position) for a in appended}) == 2_500


async def test_there_are_at_least_four_partitions_and_all_are_used(log: EventLog, topic: str) -> None:
    used = {a.partition for a in await log.append(topic, entries(100, keys=100))}
    assert used == set(range(await log.partitions(topic)))
    assert len(used) >= 4


async def test_topics_are_apart(log: EventLog, topic: str) -> None:
    (a,) = await log.append(topic, [Entry("k", b"1")])
    (b,) = await log.append(f"{topic}-u", [Entry("k", b"2")])
    assert (a.position, b.position) == (0, 0)
    assert [e.body for e in await log.read(f"{topic}-u", b.partition, 0, 10)] == [b"2"]


async def test_appended_at_never_goes_back_when_the_clock_does(
    embedded: EventLog, topic: str, clock: FixedClock
) -> None:
    for step in (0, -5, 3, -100, 50):
        clock.pass_s(step)
        await embedded.append(topic, [Entry("k", b"")])
    times = [e.appended_at for e in await embedded.read(topic, partition_of("k", 4), 0, 10)]
    assert times == [1_000_000_000] * 5
    clock.pass_s(1_000)
    (at,) = await embedded.append(topic, [Entry("k", b"")])
    assert (await embedded.read(topic, at.partition, at.position, 1))[0].appended_at == clock.now()


@pytest.mark.parametrize(("position", "limit", "expected"), [
    (0, 3, [0, 1, 2]), (4, 3, [4, 5, 6]), (8, 5, [8, 9]), (10, 5, []), (99, 5, []),
])  # fmt: skip
async def test_a_read_begins_at_the_position_and_ends_at_the_limit(
    log: EventLog, topic: str, position: int, limit: int, expected: list[int]
) -> None:
    await log.append(topic, entries(10, keys=1))
    found = await log.read(topic, partition_of("k0", 4), position, limit)
    assert [e.position for e in found] == expected


async def test_a_read_at_the_end_waits_no_longer_than_asked(log: EventLog, topic: str) -> None:
    began = asyncio.get_running_loop().time()
    assert await log.read(topic, 0, 0, 10, wait_s=0.05) == []
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_a_waiting_read_is_woken_by_an_append(log: EventLog, topic: str) -> None:
    waiting = asyncio.create_task(log.read(topic, partition_of("k", 4), 0, 10, wait_s=LONG_S))
    for _ in range(10):  # it begins to wait
        await asyncio.sleep(0)
    other = next(k for k in "abcdef" if partition_of(k, 4) != partition_of("k", 4))
    await log.append(topic, [Entry(other, b"elsewhere")])
    await log.append(topic, [Entry("k", b"here")])
    found = await asyncio.wait_for(waiting, LONG_S / 3)
    assert [e.body for e in found] == [b"here"]


async def test_a_position_that_retention_removed_is_lost_by_name(log: EventLog, topic: str, logs: Logs) -> None:
    await log.append(topic, entries(40, keys=1))
    partition = partition_of("k0", 4)
    (young,) = await logs.forget(log, topic)
    assert young.position == 40  # positions go on where they were
    with pytest.raises(PositionLost, match="the first that is left is 40") as lost:
        await log.read(topic, partition, 7, 10)
    assert lost.value.first == await log.first(topic, partition) == 40
    assert (await log.read(topic, partition, 40, 1))[0].body == b"young"


async def test_retention_that_leaves_nothing_keeps_the_end(log: EventLog, topic: str, logs: Logs) -> None:
    other = next(f"o{n}" for n in range(99) if partition_of(f"o{n}", 4) != partition_of("k0", 4))
    await log.append(topic, [Entry(other, b"")] * 5)
    await logs.forget(log, topic)
    partition = partition_of(other, 4)
    assert await log.first(topic, partition) == await log.end(topic, partition) == 5
    assert await log.read(topic, partition, 5, 10) == []
    with pytest.raises(PositionLost):
        await log.read(topic, partition, 4, 10)


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


async def test_a_group_is_told_its_positions(log: EventLog, topic: str) -> None:
    await log.partitions(topic)
    assert await log.told("g", topic, 1) == 0
    await log.tell_group("g", topic, 1, 7)
    await log.tell_group("g", topic, 1, 9)
    await log.tell_group("h", topic, 1, 3)
    asked = (("g", topic, 1), ("h", topic, 1), ("g", topic, 2), ("g", f"{topic}-u", 1))
    assert [await log.told(*where) for where in asked] == [9, 3, 0, 0]


@pytest.mark.parametrize("size", [1_000_000, 4 * 1024 * 1024])
async def test_a_large_body(log: EventLog, topic: str, size: int) -> None:
    body = bytes(size) + b"end"
    (at,) = await log.append(topic, [Entry("k", body)])
    assert (await log.read(topic, at.partition, at.position, 1))[0].body == body


async def test_an_empty_body_and_an_empty_key(log: EventLog, topic: str) -> None:
    (at,) = await log.append(topic, [Entry("", b"")])
    (found,) = await log.read(topic, at.partition, at.position, 1)
    assert (found.key, found.body) == ("", b"")


async def test_a_read_at_the_same_position_gives_the_same_again(log: EventLog, topic: str) -> None:
    await log.append(topic, entries(3_000, keys=1))
    partition = partition_of("k0", 4)
    first = await log.read(topic, partition, 0, 1_000)
    assert await log.read(topic, partition, 0, 1_000) == first
    second = await log.read(topic, partition, 1_000, 1_000)
    assert [int(e.body) for e in first + second] == list(range(2_000))
    assert await log.read(topic, partition, 1_000, 1_000) == second
    assert await log.read(topic, partition, 0, 1_000) == first  # also after it went on
    assert [int(e.body) for e in await log.read(topic, partition, 1_500, 2_000)] == list(range(1_500, 3_000))


async def test_several_read_one_place_at_once(log: EventLog, topic: str) -> None:
    await log.append(topic, entries(2_000, keys=1))
    partition = partition_of("k0", 4)
    found = await asyncio.gather(*(log.read(topic, partition, at, 100) for at in range(0, 2_000, 100)))
    assert [int(e.body) for part in found for e in part] == list(range(2_000))


async def test_a_batch_is_full_while_entries_follow(log: EventLog, topic: str) -> None:
    """A flow rests after less than a whole batch."""
    await log.append(topic, [Entry("k", bytes(500))] * 12_000)
    partition, at = partition_of("k", 4), 0
    sizes = []
    while found := await log.read(topic, partition, at, 1_000):
        sizes.append(len(found))
        at = found[-1].position + 1
    assert sizes == [1_000] * 12


async def test_topics_are_those_that_exist(log: EventLog, topic: str) -> None:
    assert topic not in await log.topics()
    await log.append(topic, [Entry("k", b"")])
    assert topic in await log.topics()


async def test_ends_are_those_of_each_partition(log: EventLog, topic: str) -> None:
    assert await log.ends(topic) == [0, 0, 0, 0]
    appended = await log.append(topic, entries(100))
    counts = Counter(a.partition for a in appended)
    assert await log.ends(topic) == [counts[p] for p in range(4)] == [await log.end(topic, p) for p in range(4)]


async def test_a_wait_ends_by_an_entry_in_any_place_and_otherwise_by_its_time(log: EventLog, topic: str) -> None:
    clock = asyncio.get_running_loop().time
    places = {(topic, p): 0 for p in range(await log.partitions(topic))}
    began = clock()
    await log.wait(places, 0.1)
    assert clock() - began >= 0.1
    waiting = asyncio.create_task(log.wait(places, LONG_S))
    (at,) = await log.append(topic, [Entry("k", b"")])
    await asyncio.wait_for(waiting, LONG_S / 3)
    await asyncio.wait_for(log.wait(places, LONG_S), LONG_S / 3)  # it is still there
    began = clock()
    await log.wait(places | {(topic, at.partition): at.position + 1}, 0.1)
    assert clock() - began >= 0.1


async def test_a_wait_may_be_given_up(log: EventLog, topic: str) -> None:
    partition = partition_of("k", 4)
    await log.partitions(topic)
    for call in (log.wait({(topic, partition): 0}, LONG_S), log.read(topic, partition, 0, 10, LONG_S)):
        waiting = asyncio.ensure_future(call)
        await asyncio.sleep(0.05)  # it waits
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    (at,) = await log.append(topic, [Entry("k", b"")])
    assert [e.position for e in await log.read(topic, at.partition, 0, 10)] == [0]


async def test_a_log_says_what_it_is(log: EventLog, capsys: pytest.CaptureFixture[str]) -> None:
    version = await log.version()
    with capsys.disabled():
        print(f"\n  event log: {version}")
    wanted = {MemoryLog: "memory", SqliteLog: "SQLite 3.", KafkaLog: f"Kafka {VERSION[:3]}"}
    assert version.startswith(wanted[type(log)])


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
