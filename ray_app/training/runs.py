"""Each run of a job: what it was asked, how far it is, and how it ended; kept as documents of kind `runs`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ray_app.cancel import cancel
from ray_app.stores.base import Document
from ray_app.tasks.running import ANSWER
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores

RUNS = "runs"
EVERY_S = 1.0  # how old a stored line may be
MOST_LINES = 200  # kept of a run


@dataclass(frozen=True)
class Run:
    """`state` is running, done, refused, failed, cancelled, or lost: it ended without a word (kill -9)."""

    id: str
    job: str
    asked: Mapping[str, Any]
    started_at: int
    state: str = "running"
    ended_at: int = 0
    why: str = ""
    version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        return {**self.__dict__, "asked": dict(self.asked), "metrics": dict(self.metrics), "lines": list(self.lines)}


class Cancelled(Exception):
    """The run was asked to end; what it had finished is kept for the next one."""


async def recorded(
    stores: Stores, tenant: str, job: str, asked: Mapping[str, Any], work: Callable[[Tell], Awaitable[Report]]
) -> Report:
    """Do `work` and keep its history. SIGTERM, which is what stopping a Ray job sends, cancels it: at once where it
    waits, at its next line where it computes. Earlier runs of the job that are still called running are lost. The
    report is printed as JSON, in a line that begins with ANSWER."""
    now = stores.clock.now()
    await _lose(stores, tenant, job)
    run, ended, lines = Run(f"{job}-{now}", job, asked, now), False, list[str]()

    def tell(line: str) -> None:
        if ended:
            raise Cancelled(f"{job} was cancelled")
        print(line, flush=True)
        lines.append(line)
        del lines[:-MOST_LINES]

    async def follow() -> None:
        while True:
            await _write(stores, tenant, replace(run, lines=tuple(lines)))
            await asyncio.sleep(EVERY_S)

    following, working = asyncio.ensure_future(follow()), asyncio.ensure_future(work(tell))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    try:
        report = await working
        state = "done" if report.version is not None else "refused"
        run = replace(run, state=state, version=report.version or "", metrics=report.metrics, why=report.why)
    except asyncio.CancelledError:
        ended, run = True, replace(run, state="cancelled", why="it was asked to end")
        raise
    except Exception as e:
        run = replace(run, state="failed", why=f"{type(e).__name__}: {e}"[:500])
        raise
    finally:
        await cancel([following])
        await _write(stores, tenant, replace(run, lines=tuple(lines), ended_at=stores.clock.now()))
    print(ANSWER + _told(job, report), flush=True)  # for the task that follows the job
    return report


def _told(job: str, r: Report) -> str:
    said = {"job": job, "name": r.name, "version": r.version, "status": r.status, "why": r.why}
    return orjson.dumps({**said, "metrics": dict(r.metrics)}, option=orjson.OPT_SERIALIZE_NUMPY).decode()


async def history(stores: Stores, tenant: str, most: int = 100) -> list[dict[str, Any]]:
    """The newest runs first, without their lines."""
    found = [dict(d.body) for d in await stores.documents.find(tenant, RUNS, limit=10_000)]
    newest = sorted(found, key=lambda b: b["started_at"], reverse=True)[:most]
    return [{k: v for k, v in b.items() if k != "lines"} for b in newest]


async def _lose(stores: Stores, tenant: str, job: str) -> None:
    for d in await stores.documents.find(tenant, RUNS, limit=10_000):
        if d.body["job"] == job and d.body["state"] == "running":
            body = {**d.body, "state": "lost", "why": "it ended without a word"}
            await stores.documents.upsert(tenant, RUNS, [Document(d.id, stores.clock.now(), body)])


async def _write(stores: Stores, tenant: str, run: Run) -> None:
    await stores.documents.upsert(tenant, RUNS, [Document(run.id, stores.clock.now(), run.body())])
