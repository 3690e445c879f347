"""What operators see of schedules, the same through every door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from ray_app.errors import InvalidField, NotFound
from ray_app.tasks.due import preview
from ray_app.tasks.policy import RAN, Entry, Standing
from ray_app.tasks.queue import Queue
from ray_app.tasks.schedule import Schedule, occurrence_id, parse, written, zone_of
from ray_app.tasks.schedules import Schedules
from ray_app.tasks.work import Handler

STANDING = ("why", "next", "failures", "counts", "preview", "ledger")  # what is shown beside a definition
NEXT = 5  # due times of a preview unless more are asked for


def handler_of(name: str, handlers: Sequence[Handler]) -> Handler | None:
    """By its name or an old one."""
    for one in handlers:
        if name == one.name or name in one.aliases:
            return one
    return next((h for h in handlers for a in h.aliases if a.endswith(".*") and name.startswith(a[:-1])), None)


def check(schedule: Schedule, handlers: Sequence[Handler]) -> Schedule:
    """Raises InvalidField for a handler that is not known, and for an argument that it would refuse."""
    found = handler_of(schedule.handler, handlers)
    if found is None:
        raise InvalidField("handler", schedule.handler, ", ".join(h.name for h in handlers) or "none is known")
    try:
        found.asks.model_validate(dict(schedule.argument))
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(["argument", *(str(p) for p in first["loc"])])
        raise InvalidField(name, first.get("input"), f"what {found.name} takes. {first['msg']}") from None
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
    found = [await _line(queue, id, e) for e in await schedules.ledger(id, lines)]
    return {**shown(s), "preview": upcoming(s.schedule, max(s.next - 1, 0), n), "ledger": found}


async def _line(queue: Queue, id: str, e: Entry) -> dict[str, Any]:
    line: dict[str, Any] = {**asdict(e), "at": written(e.at), "decided_at": written(e.decided_at)}
    if e.why in RAN:
        line["task"] = occurrence_id(id, e.at)
        try:
            line["state"] = (await queue.get(line["task"])).state.value
        except NotFound:  # on its way, or its result has expired
            line["state"] = None
    return line


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
