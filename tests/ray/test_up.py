"""`lemo up` as a person starts and ends it: Ctrl-C, SIGTERM, kill -9 of everything, a second start on one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ray_app.launch import ROOT
from ray_app.stores.embedded import DataLock, free_port
from tests.ray.conftest import until

LEMO = str(Path(sys.executable).parent / "lemo")
END_S = 10.0


class Up:
    """One `lemo up` in a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data, self.http, self.grpc = data, free_port(), free_port()
        self.out = data.with_suffix(".out")
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LEMO_"))}
        self._env |= {"LEMO_DATA": str(data), "RAY_TMPDIR": f"/tmp/lemo-up-{os.getpid()}", "COLUMNS": "200"}
        self.process = self.start()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        line = [LEMO, "up", "--no-load", "--http-port", str(self.http), "--grpc-port", str(self.grpc), *options]
        with self.out.open("wb") as out:
            return subprocess.Popen(line, env=self._env, cwd=ROOT, stdout=out, stderr=out)

    def again(self) -> None:
        self.process = self.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        until(lambda: b"ready: HTTP" in self.out.read_bytes() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.out.read_text()
        assert httpx.get(f"http://127.0.0.1:{self.http}/ready").json() == {"ready": True, "away": {}}

    def left(self) -> list[psutil.Process]:
        """Processes that carry this folder in their environment."""
        return [p for p in psutil.process_iter() if _folder(p) == str(self.data)]

    def end(self, number: int) -> float:
        """Seconds until it has ended."""
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(30) == 0
        return time.monotonic() - began

    def assert_no_trace(self) -> None:
        assert [p.cmdline() for p in self.left()] == []
        assert (free_port(self.http), free_port(self.grpc)) == (self.http, self.grpc)
        lock = DataLock(self.data)
        lock.take()
        lock.release()


def _folder(p: psutil.Process) -> str | None:
    try:
        return p.environ().get("LEMO_DATA") if p.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up") / "data")
    up.wait_ready()
    yield up
    for p in up.left():
        p.kill()


def test_a_second_start_on_the_folder_says_who_holds_it(up: Up) -> None:
    second = subprocess.run(
        [LEMO, "up", "--no-load", "--http-port", str(free_port()), "--grpc-port", str(free_port())],
        env={**os.environ, "LEMO_DATA": str(up.data), "COLUMNS": "300"}, cwd=ROOT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"data folder {up.data} is in use by process" in second.stdout + second.stderr
    assert (up.data / "up.pid").read_text().split()[0] == str(up.process.pid)  # `lemo down` finds the first still
    assert httpx.get(f"http://127.0.0.1:{up.http}/ready").status_code == 200


def test_a_taken_port_is_named(up: Up) -> None:
    line = [LEMO, "up", "--http-port", str(up.http), "--grpc-port", str(free_port())]
    env = {**os.environ, "LEMO_DATA": str(up.data.with_name("other"))}
    second = subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"port {up.http} is taken" in second.stderr
    assert "--http-port" in second.stderr


def test_kill_9_of_everything_blocks_no_next_start(up: Up) -> None:
    for p in up.left():
        p.kill()
    up.process.wait()
    up.again()


def test_kill_9_of_the_launcher_alone_leaves_nothing(up: Up) -> None:
    up.process.kill()
    up.process.wait()
    until(lambda: not up.left(), 40)
    up.assert_no_trace()
    up.again()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_and_leaves_nothing(up: Up, number: int) -> None:
    if up.process.poll() is not None:
        up.again()
    assert up.end(number) <= END_S
    up.assert_no_trace()
