"""A server program of the tests: on a free port of 127.0.0.1, with a log, ended with whoever started it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil


def free_port() -> int:
    """Below those that the system hands out by itself: one of these may be somebody's before the server has it."""
    for port in random.SystemRandom().sample(range(10_500, 32_000), 100):
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free from 10500 to 32000")


class Child(ABC):
    """`start` after `kill` brings it back at the same URL, with what lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """It takes requests. May take a second at most."""

    def start(self, timeout_s: float = 60.0) -> None:
        """Returns when it answers. Does nothing while it runs."""
        if self._process is not None:
            return
        log = self.folder / "server.log"
        # The shell ends the server when its own input ends: also after a kill -9 of whoever started it.
        line = ["sh", "-c", '"$@" <&- & read -r _; kill -9 $!', type(self).__name__, *self.command()]
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                line, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{line[4:]} does not answer:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)  # a poll of another process, not a race

    def kill(self) -> None:
        """As kill -9. Does nothing when it does not run."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:  # the shell goes on, so that a frozen server ends with us too
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.send_signal(number)
