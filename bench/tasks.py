"""The task queue beside Celery 5 and dramatiq, on one Redis server and this machine, in one run.

Rates count from the first enqueueing to the last end, two processes doing the tasks; every peer keeps results. A start
is timed from before its enqueueing, one at a time. Nothing ships the history meanwhile, as while ClickHouse is away: it
piles up in Redis. Takeover: all processes of a worker that holds a task are killed with -9 at once, another idles; ours
has the lease named, Celery the same visibility timeout. `--memory` says what Redis keeps of ended tasks.

Dramatiq needs an environment of its own, without which it is left out, and a line says so:
`python3 -m venv .venv-peers && .venv-peers/bin/pip install 'dramatiq[redis]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from bench.machine import ROOT
from bench.task_handlers import HANDLERS
from ray_app.clock import SystemClock
from ray_app.config import Settings, Stores, Tasks
from ray_app.stores.embedded import free_port, redis_command, redis_up
from ray_app.stores.redis import connect
from ray_app.tasks.queue import Queue
from ray_app.tasks.task import Submission
from ray_app.wiring.guard import worker

LEASE_S, MOST_S = 8.0, 120.0
FIRST_S = 60.0


class Ours:
    """Two slots, all settings as they are but the Redis."""

    name = "lemo"

    def __init__(self, url: str, folder: Path) -> None:
        self.settings = Settings(data=folder, stores=Stores(redis_url=url), tasks=Tasks(lease_s=LEASE_S))
        self._url = url

    @contextmanager
    def working(self) -> Iterator[int]:
        made = worker(self.settings, "general", "bench.task_handlers")
        made.start()
        try:
            yield made.pid
        finally:
            made.stop()

    async def _submitted(self, name: str, n: int) -> float:
        redis = connect(self._url)
        queue = Queue(redis, self.settings.stores.redis_prefix, self.settings.tasks, SystemClock(), HANDLERS)
        began = time.perf_counter()
        for _ in range(n):  # one a call, as the peers' producers do
            await queue.submit(Submission(name))
        while (await queue.counts())["open"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # a poll of other processes, not a race
        await redis.aclose()
        return time.perf_counter() - began

    def rate(self, name: str, n: int) -> float:
        return n / asyncio.run(self._submitted(name, n))

    async def _started(self, n: int, seconds: float) -> list[float]:
        redis = connect(self._url)
        queue = Queue(redis, self.settings.stores.redis_prefix, self.settings.tasks, SystemClock(), HANDLERS)
        found = []
        for _ in range(n):
            asked = time.time()
            [id] = await queue.submit(Submission("stamp", {"url": self._url, "seconds": seconds}))
            if seconds:
                break
            await queue.wait(id, 30)
            found.append(float(await redis.lpop("started") or b"0") - asked)  # type: ignore[misc]
        await redis.aclose()
        return found

    def starts(self, n: int) -> list[float]:
        return asyncio.run(self._started(n, 0.0))

    def hold(self) -> None:
        asyncio.run(self._started(1, 300.0))


class CeleryPeer:
    """Prefork 2, acks_late."""

    def __init__(self, url: str, prefetch: int) -> None:
        self.name, self._url = f"celery, prefetch {prefetch}", url
        os.environ.update(REDIS_URL=url, PREFETCH=str(prefetch), VISIBILITY_S=str(LEASE_S))
        self._environment = dict(os.environ)

    @property
    def _tasks(self) -> Any:
        from bench.peers import celery_tasks

        return celery_tasks

    @contextmanager
    def working(self) -> Iterator[int]:
        line = [sys.executable, "-m", "celery", "-A", "bench.peers.celery_tasks", "worker", "-c", "2", "-l", "ERROR"]
        with _process([*line, "-n", f"w{time.time_ns()}@%h"], self._environment) as pid:
            yield pid

    def rate(self, name: str, n: int) -> float:
        began, task = time.perf_counter(), getattr(self._tasks, name)
        for _ in range(n):
            task.delay()
        while self._tasks.left():
            time.sleep(0.005)  # a poll of other processes, not a race
        return n / (time.perf_counter() - began)

    def starts(self, n: int) -> list[float]:
        found = []
        for _ in range(n):
            asked = time.time()
            result = self._tasks.stamp.delay(0.0)
            result.get(timeout=30)
            found.append(float(self._tasks.redis.lpop("started")) - asked)
        return found

    def hold(self) -> None:
        self._tasks.stamp.delay(300.0)


class DramatiqPeer:
    """Two processes of one thread."""

    name = "dramatiq"

    def __init__(self, url: str, folder: Path) -> None:
        self._bin = folder / "bin"
        self._environment = {**os.environ, "REDIS_URL": url, "PYTHONPATH": str(ROOT / "bench" / "peers")}

    @contextmanager
    def working(self) -> Iterator[int]:
        line = [str(self._bin / "dramatiq"), "dramatiq_tasks", "-p", "2", "-t", "1"]
        with _process(line, self._environment) as pid:
            yield pid

    def _ran(self, name: str, n: int) -> list[float]:
        line = [str(self._bin / "python"), str(ROOT / "bench" / "peers" / "dramatiq_tasks.py"), name, str(n)]
        done = subprocess.run(line, env=self._environment, capture_output=True, text=True, timeout=600, check=True)
        return [float(s) for s in json.loads(done.stdout)]

    def rate(self, name: str, n: int) -> float:
        return n / self._ran(name, n)[0]

    def starts(self, n: int) -> list[float]:
        return self._ran("stamp", n)


Peer = Ours | CeleryPeer | DramatiqPeer


@contextmanager
def _process(line: list[str], environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(
        line, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        _kill_tree(process.pid)
        process.wait()


def _kill_tree(pid: int) -> None:
    """All its processes at once, as when a machine goes."""
    with suppress(psutil.NoSuchProcess):
        for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)


def measured(peer: Peer, redis: Redis, n: int) -> dict[str, float]:
    redis.flushall()
    with peer.working():
        peer.starts(20)  # it is up
        noop, ten = peer.rate("noop", n), peer.rate("ten_ms", n // 5)
        starts = sorted(peer.starts(300))
    p50, p99 = statistics.median(starts) * 1e3, starts[int(0.99 * len(starts))] * 1e3
    return {"noop": round(noop), "ten_ms": round(ten), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def takeover(peer: Ours | CeleryPeer, redis: Redis) -> float:
    """Seconds from the kill to the start at another worker; MOST_S where it does not come."""
    redis.flushall()
    with peer.working() as first:
        peer.hold()
        assert redis.blpop(["started"], FIRST_S) is not None, "it did not start"
        with peer.working():
            time.sleep(5.0)  # the other is up, whatever it is
            killed = time.time()
            _kill_tree(first)
            found: Any = redis.blpop(["started"], MOST_S)
    return float(found[1]) - killed if found else MOST_S


def memory(ours: Ours, redis: Redis, n: int) -> dict[str, int]:
    """Bytes that Redis keeps of each no-op task that ended, and of its line of the history."""
    redis.flushall()
    before = int(redis.info("memory")["used_memory"])  # type: ignore[index]
    with ours.working():
        ours.rate("noop", n)
    whole = int(redis.info("memory")["used_memory"])  # type: ignore[index]
    redis.delete("lemo:tasks:history")
    kept = int(redis.info("memory")["used_memory"])  # type: ignore[index]
    return {"task_bytes": (kept - before) // n, "history_bytes": (whole - kept) // n}


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(redis_command(port, folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not redis_up(port):
        time.sleep(0.02)  # a poll of another process, not a race
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="measure this alone, with N tasks")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemo-bench-") as text, redis_server(Path(text)) as url:
        redis, ours = Redis.from_url(url, socket_timeout=None), Ours(url, Path(text))
        if args.memory:
            print(json.dumps(memory(ours, redis, args.memory)))
            return
        makes: list[Callable[[], Peer]] = [lambda: ours, *(partial(CeleryPeer, url, p) for p in (1, 4))]
        if args.peers.exists():
            makes.append(lambda: DramatiqPeer(url, args.peers))
        else:
            print("dramatiq is not here")
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(args.rounds):
            for make in makes:
                peer = make()
                found.setdefault(peer.name, []).append(measured(peer, redis, args.tasks))
                print(peer.name, found[peer.name][-1], flush=True)
        shown(found)
        taken = {p.name: takeover(p, redis) for p in (ours, CeleryPeer(url, 1))}
        for name, seconds in taken.items():
            late = f"not within {MOST_S:.0f} s" if seconds >= MOST_S else f"{seconds:.1f} s"
            print(f"takeover, {name}: {late} (lease, or visibility timeout: {LEASE_S:.0f} s)")


def shown(found: dict[str, list[dict[str, float]]]) -> None:
    names = ("noop", "ten_ms", "p50_ms", "p99_ms")
    middle = {peer: {n: statistics.median(r[n] for r in rounds) for n in names} for peer, rounds in found.items()}
    print(f"{'':24}{'no-op/s':>9}{'10 ms/s':>9}{'start p50':>11}{'p99 ms':>8}")
    for peer, m in middle.items():
        print(f"{peer:24}{m['noop']:9,.0f}{m['ten_ms']:9,.0f}{m['p50_ms']:11.2f}{m['p99_ms']:8.2f}")
    ours = middle.pop("lemo")
    for peer, m in middle.items():
        ratios = ", ".join(f"{n} {ours[n] / m[n]:.2f}" for n in names)
        print(f"ratio to {peer}: {ratios}")


if __name__ == "__main__":
    main()
