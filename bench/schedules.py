"""The scheduler with 10,000 schedules, of which 200 are due each second: how late each task is in the queue, and what
the scheduler costs, busy and idle.

4,000 are intervals of 40 s, 6,000 cron of a second in each minute, in four time zones. None comes due twice within
the run, so no earlier task is looked at. The scheduler is a process of its own, on a redis-server that writes its file
as the embedded one does. How late a task is: Redis' time when the queue took it, less its due time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydantic import BaseModel

from ray_app import logs
from ray_app.clock import SystemClock, new_id
from ray_app.config import Scheduler as Settings
from ray_app.config import Tasks
from ray_app.events.schema import parse_time
from ray_app.stores.redis import connect
from ray_app.tasks.due import preview
from ray_app.tasks.policy import Standing
from ray_app.tasks.queue import Queue
from ray_app.tasks.schedule import Schedule
from ray_app.tasks.scheduler import Scheduler
from ray_app.tasks.scheduler_thread import Opened, SchedulerThread
from ray_app.tasks.schedules import Change, Schedules
from ray_app.tasks.work import Handler, Run
from tests.services.redis import EMBEDDED, RedisPeer

INTERVALS, CRONS, EVERY_S, RUN_S, IDLE_S = 4_000, 6_000, 40, 30, 20
N = INTERVALS + CRONS
PREFIX = "bench"
ZONES = ("UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe")


class Nothing(BaseModel):
    pass


async def noop(ask: Nothing, run: Run) -> None:
    pass


HANDLERS = (Handler(noop, Nothing),)


def busy() -> Iterator[Schedule]:
    """200 are due in each second: 100 of the intervals, 100 of the crons."""
    for k in range(N):
        when: dict[str, Any] = {"every_s": EVERY_S, "anchor": k % EVERY_S * 1000}
        if k >= INTERVALS:
            when = {"cron": f"{k % 60} * * * * *", "zone": ZONES[k % 4]}
        yield Schedule(id=f"s{k}", handler="noop", overlap=("allow", "skip")[k % 2], coalesce="all", **when)


def idle() -> Iterator[Schedule]:
    for k in range(N):
        yield Schedule(id=f"s{k}", handler="noop", cron=f"{k % 60} {k % 24} 1 1 *")


def schedules(redis: Any) -> Schedules:
    return Schedules(redis, PREFIX, SystemClock())


async def fill(redis: Any, wanted: Iterator[Schedule], begin: int) -> None:
    await redis.flushall()
    known, all_of_them = schedules(redis), list(wanted)
    for k in range(0, N, 500):
        part = [Standing(s, next=preview(s, begin, 1)[0].at) for s in all_of_them[k : k + 500]]
        await known.apply([Change(s) for s in part])


def member(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.schedules", url], stdin=subprocess.PIPE)


def serve(url: str) -> None:
    """Be the scheduler until the input ends."""

    async def opened() -> Opened:
        redis, clock = connect(url), SystemClock()
        queue = Queue(redis, PREFIX, Tasks(), clock, HANDLERS)
        made = Scheduler(Schedules(redis, PREFIX, clock), queue, Settings(workers_s=0), clock, new_id())
        return Opened(made, redis.aclose)

    logs.start("WARNING")
    thread = SchedulerThread(opened)
    thread.start()
    sys.stdin.read()
    thread.stop()


class Cost:
    """CPU seconds of a process between two looks, and its memory."""

    def __init__(self, *processes: psutil.Process) -> None:
        self._processes, self._clock = processes, SystemClock()
        self._began, self._at = self._seconds(), self._clock.monotonic()

    def _seconds(self) -> list[float]:
        return [sum(p.cpu_times()[:2]) for p in self._processes]

    def percent(self) -> list[float]:
        passed = self._clock.monotonic() - self._at
        return [round(100 * (b - a) / passed, 1) for a, b in zip(self._began, self._seconds(), strict=True)]


async def lateness(redis: Any, begin: int, end: int) -> np.ndarray[Any, Any]:
    """Milliseconds, of every task whose due time is within the span."""
    queue = Queue(redis, PREFIX, Tasks(), SystemClock(), HANDLERS)
    ids = [k.decode().rpartition(":task:")[2] async for k in redis.scan_iter(f"{queue.prefix}:task:*", count=10_000)]
    late = []
    for k in range(0, len(ids), 1000):
        for task in (await queue.get_many(ids[k : k + 1000])).values():
            due = parse_time("at", task.id.partition("@")[2])
            if begin < due <= end:
                late.append(task.submitted_at - due)
    return np.array(late)


async def ledgers(redis: Any, begin: int, end: int) -> dict[str, int]:
    """How many due times became what."""
    known, found = schedules(redis), Counter[str]()
    for s in await known.page(N):
        found.update(str(e.why) for e in await known.ledger(s.schedule.id, 1000, begin + 1, end))
    return dict(found)


async def measure(server: RedisPeer) -> None:
    redis, clock = connect(server.url), SystemClock()
    store = psutil.Process((await redis.info("server"))["process_id"])
    for name, wanted, seconds in (("busy", busy, RUN_S), ("idle", idle, IDLE_S)):
        await fill(redis, wanted(), clock.now() + 15_000)
        process = member(server.url)
        await asyncio.sleep(15 + 2)  # it starts, and leads before the first is due
        begin, cost = clock.now() // 1000 * 1000, Cost(psutil.Process(process.pid), store)
        await asyncio.sleep(seconds)
        end, (own, of_redis) = clock.now() // 1000 * 1000 - 1000, cost.percent()
        memory = psutil.Process(process.pid).memory_full_info().pss
        found: dict[str, Any] = {"run": name, "schedules": N, "seconds": (end - begin) / 1000}
        found |= {"cpu_percent": own, "redis_cpu_percent": of_redis, "pss_mb": round(memory / 1e6)}
        if name == "busy":
            late = await lateness(redis, begin, end)
            found |= {f"p{q}_ms": round(float(np.percentile(late, q)), 1) for q in (50, 99)}
            found |= {"most_ms": int(late.max()), "tasks": len(late), "ledger": await ledgers(redis, begin, end)}
        used = await redis.info("memory")
        print(json.dumps({**found, "redis_mb": round(used["used_memory"] / 1e6)}), flush=True)
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(20)
    await redis.aclose()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisPeer(Path(folder), EMBEDDED)
        server.start()
        try:
            asyncio.run(measure(server))
        finally:
            server.kill()


if __name__ == "__main__":
    serve(sys.argv[1]) if sys.argv[1:] else main()
