"""The worker's side of a guard: start it, see that it lives, drain it, and leave none of its slots behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

logger = logging.getLogger(__name__)
WATCH_S = 0.2
START_S = 60.0  # a guard imports what its handlers need before its first word
SILENT = 0.6  # of a lease: a guard that says nothing for so long is stopped, and its slots may not go on without it


class Worker:
    """Runs `command`, a guard, with `first` as the first line of its input."""

    def __init__(self, command: Sequence[str], first: bytes, lease_s: float) -> None:
        self._command, self._first, self._silent_s = list(command), first, max(1.0, lease_s * SILENT)
        self._ending = threading.Event()
        self._changing = threading.Lock()  # of the process: who stops a worker may not meet one that is just begun
        self._draining = False
        self.told: dict[str, Any] = {}
        self._heard_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._begin()
        threading.Thread(target=self._watch, daemon=True, name="watch-guard").start()

    def _begin(self) -> None:
        self.told, self._heard_at = {}, time.monotonic()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._first + b"\n")
        self._process.stdin.flush()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True, name="hear-guard").start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if process is self._process:
                self._heard_at = time.monotonic()
                self.told = orjson.loads(line)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def alive(self) -> bool:
        """Whether a guard runs, or is about to."""
        return self._process is not None and (self._process.poll() is None or not self._ending.is_set())

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_S):
            silent = time.monotonic() - self._heard_at > (self._silent_s if self.told else START_S)
            ended = self._process is None or self._process.poll() is not None
            if self._draining or not (silent or ended):
                continue
            logger.warning("a guard is started again", extra={"why": "it was silent" if silent else "it had ended"})
            with self._changing, suppress(OSError):  # what does not begin now is tried again
                if not self._ending.is_set():
                    self._kill()
                    self._begin()

    def drain(self, seconds: float) -> None:
        """Slots end after their task; what still runs after `seconds` is given back, without counting as an attempt."""
        self._draining = True
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.write(f"drain {seconds}\n".encode())
                process.stdin.flush()
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds + 2.0)
        self.stop()

    def stop(self) -> None:
        """At once. Tasks that ran go to other workers, as after a failure."""
        self._ending.set()
        with self._changing:
            self._stop()

    def _stop(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
        self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self.told.get("slots", ()):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
