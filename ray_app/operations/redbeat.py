"""Reads the entries of RedBeat 2.4 (the Celery scheduler) out of its Redis, as schedules of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import orjson

from ray_app.errors import InvalidField, LemoError
from ray_app.operations.schedules import check
from ray_app.tasks.names import Names, merged
from ray_app.tasks.schedule import Schedule, parse, zone_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
LAST = {"minute": 59, "hour": 23, "day_of_month": 31, "month_of_year": 12, "day_of_week": 6}
FIRST = {"minute": 0, "hour": 0, "day_of_month": 1, "month_of_year": 1, "day_of_week": 0}
NAMES = re.compile(r"[A-Za-z]{3,}")
WRAPS = re.compile(r"^(\d+)-(\d+)(/\d+)?$")


@dataclass(frozen=True, slots=True)
class Found:
    """One entry: the schedule that it becomes, or why it cannot; `left`: its options, which a schedule has no place
    for."""

    name: str
    schedule: Schedule | None = None
    why: str = ""
    left: str = ""


async def read(redis: Redis, prefix: str, zone: str, names: Names) -> list[Found]:
    """Every entry below `prefix` (RedBeat's own: "redbeat:"), also static and disabled ones, by name. `zone`: the
    `timezone` of the Celery app, which RedBeat does not store."""
    found = []
    async for key in redis.scan_iter(f"{prefix}*", count=1000):
        if await redis.type(key) != b"hash":  # its own set, list of due ones and lock
            continue
        held: Any = await redis.hmget(key, ["definition", "meta"])
        definition, meta = held
        if definition:
            found.append(_translate(key.decode().removeprefix(prefix), definition, meta, zone, names))
    return sorted(found, key=lambda one: one.name)


def _translate(
    name: str, definition: bytes, meta: bytes | None, zone: str, names: Names
) -> Found:  # fmt: skip
    try:
        body = orjson.loads(definition)
        left = ", ".join(f"{k}={v!r}" for k, v in (body.get("options") or {}).items())[:500]
        note = f"from RedBeat entry {name}" + (f", without {left}" if left else "")
        asked = {
            "id": re.sub(r"[^A-Za-z0-9._:-]+", "-", str(body.get("name") or name)).lstrip("._:-"),
            "paused": not body.get("enabled", True), "note": note,
            "handler": body.get("task"), "argument": _argument(body, names),
            **_times(body.get("schedule"), orjson.loads(meta) if meta else {}, zone),
        }  # fmt: skip
        return Found(name, check(parse(asked), names), left=left)
    except LemoError as e:
        return Found(name, why=e.message)
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError, ValueError) as e:
        return Found(name, why=f"it is no entry of RedBeat 2.4: {e}")


def _argument(body: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Raises UnknownTask, and InvalidField for positions that the handler has no names for."""
    handler = names.of(str(body.get("task")))
    return merged(handler, list(body.get("args") or ()), dict(body.get("kwargs") or {}))


def _times(schedule: Any, meta: Mapping[str, Any], zone: str) -> dict[str, Any]:
    kind = schedule.get("__type__") if isinstance(schedule, Mapping) else None
    if kind == "crontab":
        return {"cron": _cron(schedule), "zone": zone}
    if kind == "interval":
        every = float(schedule["every"])
        if every < 1 or every != int(every):
            raise InvalidField("every", every, "whole seconds, from 1")
        return {"every_s": int(every), "anchor": _anchor(meta.get("last_run_at")), "zone": zone}
    raise InvalidField("schedule", kind or schedule, "crontab, interval")


def _anchor(last: Any) -> int:
    """The last run (ms, whole seconds), so that an interval keeps its beat."""
    if not isinstance(last, Mapping):
        return 0
    fields = {k: v for k, v in last.items() if k not in ("__type__", "timezone")}
    zone = last.get("timezone", "UTC")
    known = timezone(timedelta(seconds=zone)) if isinstance(zone, (int, float)) else zone_of(zone)
    return int(datetime(**fields, tzinfo=known).timestamp()) * 1000


def _cron(crontab: Mapping[str, Any]) -> str:
    """Raises InvalidField where Celery and cron mean different things by the same fields."""
    fields = {name: _field(name, crontab.get(name, "*")) for name in FIELDS}
    day, weekday = fields["day_of_month"], fields["day_of_week"]
    if not day.startswith("*") and not weekday.startswith("*"):
        raise InvalidField("day_of_week", weekday, "* beside a day_of_month: Celery wants both, cron one of them")
    return " ".join(fields.values())


def _field(name: str, value: Any) -> str:
    text = ",".join(str(v) for v in value) if isinstance(value, list) else str(value)
    return ",".join(_part(name, part.strip()) for part in text.replace(" ", "").split(","))


def _part(name: str, part: str) -> str:
    """Names are cut to three letters; a range that goes around its end is two."""
    part = NAMES.sub(lambda m: m[0][:3], part)
    wraps = WRAPS.match(part)
    if not wraps or int(wraps[1]) <= int(wraps[2]):
        return part
    if wraps[3]:
        raise InvalidField(name, part, "a range with a step that does not go around its end")
    return f"{wraps[1]}-{LAST[name]},{FIRST[name]}-{wraps[2]}"
