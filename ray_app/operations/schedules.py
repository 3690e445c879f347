"""What operators see of schedules, the same through every door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from typing import Any

from ray_app.catalog.tenant import SYSTEM, parse_tenant
from ray_app.errors import InvalidField
from ray_app.tasks.due import preview
from ray_app.tasks.names import Names, checked
from ray_app.tasks.policy import RAN, Entry, Standing
from ray_app.tasks.queue import Queue
from ray_app.tasks.schedule import Schedule, occurrence_id, parse, written, zone_of
from ray_app.tasks.schedules import Schedules
from ray_app.tasks.task import Task

STANDING = ("why", "next", "failures", "counts", "preview", "ledger")  # what is shown beside a definition
LATE_MS = 120_000  # a scheduler that was lost has been replaced for long by then
PAGE = 1000
NEXT = 5  # due times of a preview unless more are asked for


def check(schedule: Schedule, names: Names) -> Schedule:
    """Raises UnknownTask for a handler that is not there, InvalidField for an argument that it would refuse and for a
    tenant that cannot be one."""
    if schedule.tenant != SYSTEM:
        parse_tenant(schedule.tenant)
    handler = names.of(schedule.handler)
    if handler.house and schedule.tenant != SYSTEM:
        raise InvalidField("tenant", schedule.tenant, f"{SYSTEM}: the work of {handler.name} is all tenants'")
    checked(handler, schedule.argument)
    return schedule


def shown(s: Standing) -> dict[str, Any]:
    """A schedule and where it stands. Times are ISO 8601 in UTC."""
    return {
        **s.schedule.public(), "paused": bool(s.paused), "why": s.paused, "next": written(s.next) if s.next else None,
        "failures": s.failures, "counts": dict(s.counts),
    }  # fmt: skip


async def whole(schedules: Schedules, queue: Queue, id: str, lines: int, n: int = NEXT) -> dict[str, Any]:
    """Also its next n due times, and the newest lines of its ledger with the states of their tasks. Raises NotFound."""
    s = await schedules.get(id)
    entries = await schedules.ledger(id, lines)
    tasks = await queue.get_many(occurrence_id(id, e.at) for e in entries if e.why in RAN)
    found = [_line(id, e, tasks) for e in entries]
    return {**shown(s), "preview": upcoming(s.schedule, max(s.next - 1, 0), n), "ledger": found}


def _line(id: str, e: Entry, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Without a state where the task is on its way, or its result has expired."""
    line: dict[str, Any] = {**asdict(e), "at": written(e.at), "decided_at": written(e.decided_at)}
    if e.why not in RAN:
        return line
    task = occurrence_id(id, e.at)
    return {**line, "task": task, "state": tasks[task].state.value if task in tasks else None}


def upcoming(schedule: Schedule, at: int, n: int = NEXT) -> list[dict[str, Any]]:
    """The next n due times after `at` (ms): in UTC, in local time, and why one does not run."""
    zone = zone_of(schedule.zone)
    return [
        {"at": written(d.at), "local": _local(d.at, zone), "why": d.why, "jitter_ms": schedule.jitter(d.at)}
        for d in preview(schedule, at, n)
    ]


def _local(at: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).isoformat()


def definitions(raw: Any) -> list[Schedule]:
    """Of a file: {"schedules": [...]}, also as a list of ours has them. Raises InvalidField."""
    lines = raw.get("schedules") if isinstance(raw, Mapping) else None
    if not isinstance(lines, list) or not all(isinstance(one, Mapping) for one in lines):
        raise InvalidField("schedules", raw, "a table for each: [[schedules]] in TOML, a list of objects in JSON")
    return [parse({k: v for k, v in one.items() if k not in STANDING}) for one in lines]


async def trouble(schedules: Schedules) -> str:
    """What is wrong, "" for nothing: due times that nobody decides, occurrences that the queue does not take, schedules
    that cannot be read, and those that paused themselves after failures."""
    found, now, late = list[str](), schedules.clock.now(), 0
    limit = now - LATE_MS
    stuck = await schedules.redis.zcount(schedules.outbox, "-inf", limit)
    if stuck := stuck + await schedules.redis.zcount(schedules.outbox, f"({now}", "+inf"):  # those tried again later
        found.append(f"{stuck} occurrences wait for the task queue, which does not take them, or for a scheduler")
    names: Any = await schedules.redis.zrange(schedules.names, 0, -1)
    unread, beyond = {n.decode() for n in names}, ""
    while page := await schedules.page(PAGE, beyond):
        beyond = page[-1].schedule.id
        unread -= {s.schedule.id for s in page}
        late += sum(1 for s in page if s.next and s.wake < limit)
        found += [f"{s.schedule.id} has paused itself: {s.paused}" for s in page if "failures in a row" in s.paused]
    if late:
        found.insert(0, f"{late} schedules are due since more than {LATE_MS // 1000} s: no scheduler decides them")
    if unread:
        found.append(f"{', '.join(sorted(unread)[:20])} cannot be read: put them again")
    return "; ".join(found[:20])
