"""`lemo up`: run `serve run` with the variables it needs, wait until it is ready, and leave nothing behind.

Ray itself is not imported: the launcher stays small, and what it starts is what `serve run` alone starts.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

import httpx
import psutil
import yaml

from ray_app.errors import LemoError, Unavailable
from ray_app.stores.embedded import DataLock, free_port

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "serve_config.yaml"
MARK = "RUN_OF_LEMO"  # in the environment of every process of one start
STARTED = "up.pid"  # a file of the data folder: which `lemo up` runs on it
JOBS_PORT = 52365  # where Ray's agent takes jobs; of clusters that `serve run` starts it is always this one
RELEASE_S = 5.0  # a cluster that was killed holds that port for less
STOP_S = 5.0  # `serve run` has this long after SIGINT; then everything of this start is killed
_PR_SET_PDEATHSIG = 1

VARIABLES = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class Stopped(Exception):
    """SIGINT or SIGTERM arrived."""


def reserve(port: int, timeout_s: float) -> socket.socket | None:
    """Keeps `port` from being picked for any connection, until it is closed; a server that sets SO_REUSEADDR can still
    listen on it. None when another one still listens there after `timeout_s`: what was killed takes a while to go."""
    deadline = time.monotonic() + timeout_s
    while True:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("", port))
            return held
        except OSError:
            held.close()
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)  # a poll of another process, not a race


def environment(data: Path, run: str, scratch: Path) -> dict[str, str]:
    """What `serve run` needs before Ray starts; values that are already set win, ports that are taken do not."""
    env = {**VARIABLES, **os.environ, MARK: run, "LEMO_DATA": str(data)}
    env["RAY_ADDRESS"] = "local"  # else `serve run` joins whatever cluster started last on this machine
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env["RAY_SERVE_HAPROXY_STATS_PORT"] = str(free_port(int(env.get("RAY_SERVE_HAPROXY_STATS_PORT", "8404"))))
    env["RAY_SERVE_HAPROXY_METRICS_PORT"] = str(free_port(int(env.get("RAY_SERVE_HAPROXY_METRICS_PORT", "9101"))))
    for name, file in {
        "CONFIG_FILE_LOC": "haproxy.cfg",
        "SOCKET_PATH": "admin.sock",
        "SERVER_STATE_BASE": "",
        "SERVER_STATE_FILE": "server-state",
    }.items():
        env.setdefault(f"RAY_SERVE_HAPROXY_{name}", str(scratch / file))
    return env


class House:
    """One start of the whole system on this machine, as `file` describes it."""

    def __init__(
        self, data: Path, http_port: int | None = None, grpc_port: int | None = None, file: Path = CONFIG
    ) -> None:
        config = yaml.safe_load(file.read_text())
        self.http_port = http_port or config["http_options"]["port"]
        self.grpc_port = grpc_port or config["grpc_options"]["port"]
        config["http_options"]["port"], config["grpc_options"]["port"] = self.http_port, self.grpc_port
        self.data, self._config, self._run = data, config, uuid.uuid4().hex
        self.log = data / "logs" / "serve.log"
        self._scratch = Path(tempfile.mkdtemp(prefix="lemo-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs_port: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def takes_jobs(self) -> bool:
        """Once it has started; False when another cluster of this machine takes them."""
        return self._jobs_port is not None

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Raises DataFolderInUse when another start holds the folder, Unavailable when a door's port is taken."""
        held = DataLock(self.data)
        held.take()  # the stores' actor takes it for good, half a minute from now
        held.release()
        for port in (self.http_port, self.grpc_port):
            if free_port(port) != port:
                raise Unavailable(f"port {port} is taken. Stop what listens there, or choose: --http-port, --grpc-port")
        self._jobs_port = reserve(JOBS_PORT, RELEASE_S)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        (self.data / STARTED).write_text(f"{os.getpid()} {psutil.Process().create_time()}")
        written = self._scratch / "serve_config.yaml"
        written.write_text(yaml.safe_dump(self._config))
        env = {**environment(self.data, self._run, self._scratch), **(extra or {})}
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).parent / "serve"), "run", str(written)],
                env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, preexec_fn=_follow_parent,
            )  # fmt: skip

    def wait_ready(self, timeout_s: float = 180.0) -> None:
        """Raises LemoError with the end of the log when `serve run` ends or the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise LemoError(f"the start failed:\n{self._tail()}\nThe whole log: {self.log}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.3)  # a poll of another process, not a race
        raise LemoError(f"not ready after {timeout_s:.0f} s:\n{self._tail()}\nThe whole log: {self.log}")

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait()

    def stop(self) -> None:
        """SIGINT, then SIGKILL for whatever of this start is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        left = self.processes()
        for p in left:
            with suppress(psutil.Error):
                p.kill()
        psutil.wait_procs(left, timeout=2)
        shutil.rmtree(self._scratch, ignore_errors=True)
        if self._jobs_port is not None:
            self._jobs_port.close()
        if self._process is not None:  # a start that was refused leaves the note of the one that runs
            (self.data / STARTED).unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """Every process of this start, found by the mark in its environment."""
        return [p for p in psutil.process_iter() if _environ(p).get(MARK) == self._run]

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:]) if self.log.exists() else ""


def end(data: Path, timeout_s: float = 20.0) -> bool | None:
    """End what `lemo up` started on this folder: True when it has ended, False when it has not within `timeout_s`, None
    when nothing runs there."""
    try:
        pid, began = (data / STARTED).read_text().split()
        found = psutil.Process(int(pid))
        if abs(found.create_time() - float(began)) > 1.0:  # another process has got its number
            return None
        found.send_signal(signal.SIGTERM)
        return not psutil.wait_procs([found], timeout_s)[1]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def run(house: House, when_ready: Callable[[], None], extra: Mapping[str, str] | None = None) -> int:
    """Stay in the foreground until Ctrl-C or SIGTERM; returns the exit status."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts us with & makes us ignore SIGINT
        signal.signal(number, stop)
    try:
        house.start(extra)
        house.wait_ready()
        when_ready()
        return house.wait()
    except Stopped:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        house.stop()


def _follow_parent() -> None:
    """A launcher killed with -9 takes `serve run` with it, and that takes Ray."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _environ(p: psutil.Process) -> dict[str, str]:
    try:
        return p.environ()
    except (psutil.Error, OSError):
        return {}
