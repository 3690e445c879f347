"""Use cases of operators: schedules, their next runs and their ledgers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id, parse_time, refuse_unknown
from ray_app.operations.schedules import NEXT, check, shown, upcoming, whole
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count
from ray_app.serving.operators import only_operators
from ray_app.serving.use import Use
from ray_app.tasks import operate
from ray_app.tasks.schedule import parse

Ask = Mapping[str, Any]
Answer = dict[str, Any]
MOST_LISTED = 1000


async def list_schedules(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("limit", "after"))
    limit = parse_count("limit", raw.get("limit", 100), MOST_LISTED)
    found = [shown(s) for s in await app.schedules.page(limit + 1, str(raw.get("after") or ""))]
    answer: Answer = {"schedules": found[:limit]}
    return {**answer, "next": found[limit - 1]["id"]} if len(found) > limit else answer


async def get_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("schedule", "n", "limit"))
    lines = parse_count("limit", raw.get("limit", 20), MOST_LISTED)
    return await whole(app.schedules, app.queue, _id(raw), lines, parse_count("n", raw.get("n", NEXT), 100))


async def put_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    fields = dict(raw)
    id = fields.pop("schedule")
    if fields.setdefault("id", id) != id:
        raise InvalidField("id", fields["id"], f"{id!r}, as in the path, or none")
    return shown(await app.schedules.put(check(parse(fields), app.queue.names)))


async def delete_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("schedule",))
    await app.schedules.delete(_id(raw))
    return {"deleted": 1}


async def pause_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("schedule", "note"))
    return shown(await operate.pause(app.schedules, _id(raw), str(raw.get("note") or "")))


async def resume_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("schedule",))
    return shown(await operate.resume(app.schedules, _id(raw)))


async def trigger_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("schedule",))
    return {"task": await operate.trigger(app.schedules, _id(raw))}


async def backfill_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("schedule", "from", "to", "order"))
    since, until = parse_time("from", raw.get("from")), parse_time("to", raw.get("to"))
    order = str(raw.get("order") or operate.ORDERS[0])
    found = await operate.backfill(app.schedules, _id(raw), since, until, order)
    return {"tasks": list(found.ids), "ran": found.ran}


async def preview_schedule(app: App, tenant: str, raw: Ask) -> Answer:
    """Of a schedule that is not written."""
    only_operators(tenant)
    fields = dict(raw)
    n, at = parse_count("n", fields.pop("n", NEXT), 100), fields.pop("from", None)
    since = app.clock.now() if at is None else parse_time("from", at)
    return {"preview": upcoming(parse({"id": "preview", "handler": "none", **fields}), since, n)}


def _id(raw: Ask) -> str:
    return parse_id("schedule", raw.get("schedule"))


ONE = "/api/v1/schedules/{schedule}"
USES = (
    Use("list_schedules", "GET", "/api/v1/schedules", list_schedules,
        "Schedules by id, page by page (operator's key)", query=("limit", "after")),
    Use("preview_schedule", "POST", "/api/v1/schedules/preview", preview_schedule,
        "The next due times of a schedule that is not written (operator's key)"),
    Use("get_schedule", "GET", ONE, get_schedule,
        "One schedule: where it stands, next due times, ledger (operator's key)", query=("n", "limit")),
    Use("put_schedule", "PUT", ONE, put_schedule, "Write a schedule (operator's key)"),
    Use("delete_schedule", "DELETE", ONE, delete_schedule, "Take a schedule away (operator's key)"),
    Use("pause_schedule", "POST", ONE + "/pause", pause_schedule, "Nothing runs until it is resumed (operator's key)"),
    Use("resume_schedule", "POST", ONE + "/resume", resume_schedule, "Let it go on (operator's key)"),
    Use("trigger_schedule", "POST", ONE + "/trigger", trigger_schedule, "Run it once now (operator's key)"),
    Use("backfill_schedule", "POST", ONE + "/backfill", backfill_schedule,
        "Run what was due in a span and did not run (operator's key)"),
)  # fmt: skip
