"""Workers as processes, with their guards and slots, to be killed and stopped by a test.

`python -m tests.crash.fleet` is one worker; its settings come as the first line, and it ends with its input.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress

import psutil

from ray_app.config import Settings


class Fleet:
    """`stopped`: pids of slots that were ever stopped: on waking they may do something before they are ended."""

    def __init__(self, settings: Settings, workers: int, rng: random.Random) -> None:
        self._first = settings.model_dump_json().encode() + b"\n"
        self._n, self._rng = workers, rng
        self.workers: list[subprocess.Popen[bytes]] = []
        self.stopped: set[int] = set()
        self.fill()

    def fill(self) -> None:
        """Until there are as many workers as at the start."""
        self.workers = [w for w in self.workers if w.poll() is None]
        while len(self.workers) < self._n:
            line = [sys.executable, "-m", "tests.crash.fleet"]
            worker = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert worker.stdin is not None
            worker.stdin.write(self._first)
            worker.stdin.flush()
            self.workers.append(worker)

    def guards(self) -> list[psutil.Process]:
        return [c for w in self.workers for c in _children(w.pid)]

    def slots(self) -> list[psutil.Process]:
        return [c for g in self.guards() for c in _children(g.pid)]

    def tree(self) -> list[int]:
        """One worker, its guard and its slots; the slots count as stopped."""
        worker = self._rng.choice(self.workers).pid
        guards = [c.pid for c in _children(worker)]
        slots = [c.pid for g in guards for c in _children(g)]
        return [worker, *guards, *slots]

    def stop(self, pids: list[int]) -> None:
        self.stopped.update(pids)
        _send(pids, signal.SIGSTOP)

    def go_on(self, pids: list[int]) -> None:
        _send(pids, signal.SIGCONT)

    def kill(self, pids: list[int]) -> None:
        _send(pids, signal.SIGKILL)

    def kill_all(self) -> None:
        """As if the machine had gone: workers, guards and slots at once."""
        self.kill([w.pid for w in self.workers] + [p.pid for p in self.guards() + self.slots()])

    def close(self) -> None:
        self.go_on([w.pid for w in self.workers] + [g.pid for g in self.guards()])
        self.kill_all()
        for worker in self.workers:
            worker.wait()


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def main() -> None:
    from ray_app.wiring.guard import worker

    settings = Settings.model_validate_json(sys.stdin.readline())
    made = worker(settings, "general", "tests.crash.handlers")
    made.start()
    sys.stdin.read()
    made.stop()


if __name__ == "__main__":
    main()
