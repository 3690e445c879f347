"""The embedded children: kill -9 of each, of the process that started them, and a second start on one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import psutil
import pytest
import redis

from ray_app.errors import DataFolderInUse, Unavailable
from ray_app.stores.embedded import Addresses, DataLock, Embedded, addresses, end_old

STARTER = """
import sys, pathlib
from ray_app.stores.embedded import Embedded
Embedded(pathlib.Path(sys.argv[1])).start()
print("up", flush=True)
sys.stdin.read()
"""


class Stores:
    """What a user of the addresses writes and reads."""

    def __init__(self, at: Addresses) -> None:
        olap = urlsplit(at.clickhouse_url)
        self.redis = redis.Redis.from_url(at.redis_url, protocol=2)
        self._olap = {"host": olap.hostname, "port": olap.port, "autogenerate_session_id": False}

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        client = clickhouse_connect.get_client(**self._olap)
        found = [tuple(row) for row in client.query(statement).result_rows]
        client.close()
        return found

    def fill(self, n: int = 1000) -> None:
        pipe = self.redis.pipeline(transaction=False)
        for k in range(n):
            pipe.set(f"k{k}", k)
        pipe.execute()
        while self.redis.info("persistence")["aof_buffer_length"]:  # behind a slow disk Redis holds it for 2 s at most
            time.sleep(0.01)
        self.sql("CREATE TABLE held (n Int64) ENGINE = MergeTree ORDER BY n")
        self.sql(f"INSERT INTO held SELECT number FROM numbers({n})")

    def counts(self) -> tuple[object, object]:
        return self.redis.dbsize(), self.sql("SELECT count(), sum(n) FROM held")[0]


HELD = (1000, (1000, sum(range(1000))))


def pid(data: Path, child: str) -> int:
    return int((data / child / "pid").read_text().split()[0])


def kill(number: int) -> None:
    os.kill(number, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(number)] if psutil.pid_exists(number) else [], timeout=5)


def ended(process: psutil.Process) -> bool:
    """Also when the first process of the machine has not yet taken note of it."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def embedded(data: Path) -> Iterator[Embedded]:
    started = Embedded(data)
    started.start()
    Stores(addresses(data)).fill()
    yield started
    started.stop()


@pytest.mark.parametrize("children", [["redis"], ["clickhouse"], ["redis", "clickhouse"]])
def test_a_killed_child_comes_back_at_its_address_with_its_data(
    embedded: Embedded, data: Path, children: list[str]
) -> None:
    before = addresses(data)
    for child in children:
        kill(pid(data, child))
    assert len(embedded.check()) == len(children)
    assert addresses(data) == before
    assert Stores(before).counts() == HELD
    assert embedded.check() == []


def test_a_second_start_on_one_folder_says_who_holds_it(embedded: Embedded, data: Path) -> None:
    with pytest.raises(DataFolderInUse) as caught:
        Embedded(data).start()
    for part in (str(data), str(os.getpid()), os.uname().nodename, "since", "LEMO_DATA"):
        assert part in caught.value.message
    assert Stores(addresses(data)).counts() == HELD


def test_a_lock_is_free_again_after_its_release_and_after_a_failed_take(tmp_path: Path) -> None:
    first, second = DataLock(tmp_path), DataLock(tmp_path)
    first.take()
    with pytest.raises(DataFolderInUse):
        second.take()
    first.release()
    second.take()
    second.release()


def test_addresses_of_a_folder_that_was_never_started(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="lemo up"):
        addresses(tmp_path)


def test_a_parent_killed_with_9_blocks_no_next_start_and_loses_nothing(tmp_path: Path) -> None:
    """Its children may live on: the next start ends them, on the same ports."""
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert parent.stdout.readline() == b"up\n"
    before, orphans = addresses(tmp_path), [psutil.Process(pid(tmp_path, c)) for c in ("redis", "clickhouse")]
    assert all(os.getpgid(o.pid) == os.getpgid(parent.pid) for o in orphans)  # so that they end with its group
    Stores(before).fill()
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    again = Embedded(tmp_path)
    try:
        assert again.start() == before
        assert all(ended(o) for o in orphans)
        assert Stores(before).counts() == HELD
    finally:
        again.stop()


def test_an_orphaned_chdb_server_ends_by_itself(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    parent.stdout.readline()
    orphans = {c: psutil.Process(pid(tmp_path, c)) for c in ("redis", "clickhouse")}
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    try:
        deadline = time.monotonic() + 5
        while not ended(orphans["clickhouse"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)  # a poll of another process, not a race
    finally:
        for child in orphans:
            end_old(tmp_path / child / "pid")


def test_a_process_that_only_has_the_number_of_an_old_one_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    (tmp_path / "pid").write_text(f"{other.pid} {psutil.Process(other.pid).create_time() - 100}")
    end_old(tmp_path / "pid")
    assert other.poll() is None
    assert not (tmp_path / "pid").exists()
    other.kill()
    other.wait()


def test_stop_ends_both_and_frees_the_folder(tmp_path: Path) -> None:
    for _ in range(2):
        embedded = Embedded(tmp_path)
        embedded.start()
        children = [psutil.Process(pid(tmp_path, c)) for c in ("redis", "clickhouse")]
        embedded.stop()
        assert all(ended(c) for c in children)
