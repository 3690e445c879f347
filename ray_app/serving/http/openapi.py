"""OpenAPI of the HTTP door; docs.html shows it without anything from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray_app.catalog.rule import ACTIONS
from ray_app.catalog.scenario import BEST
from ray_app.content import source
from ray_app.models.diversity import DIVERSIFIERS
from ray_app.models.ranker import KINDS
from ray_app.serving.use import Use
from ray_app.serving.usecases import USES
from ray_app.tasks.operate import ORDERS
from ray_app.tasks.queue import MOST_TASKS
from ray_app.tasks.schedule import Schedule
from ray_app.tasks.task import State
from ray_app.types import BEHAVIOR_TYPES

PAGE = (Path(__file__).parent / "docs.html").read_text()
TEXT, WHOLE, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
ID = {"type": "string", "minLength": 1, "description": "1 to 256 bytes of UTF-8"}
AT = {
    "oneOf": [{"type": "integer"}, {"type": "string", "format": "date-time"}],
    "description": "ms since 1970, or ISO 8601",
}


def _object(needed: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(needed), "additionalProperties": False}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


FILTER = _object(("field", "op", "value"), field=TEXT, op={"enum": ["eq", "in", "gte", "lte"]}, value={})
RECOMMEND = _object(
    ("scenario",), scenario=ID, user_id=ID, session_id=ID, n={**WHOLE, "minimum": 1, "maximum": 200, "default": 10},
    context_item_id=ID, filters=_list(FILTER), exclude=_list(ID), debug=FLAG,
)  # fmt: skip
ITEM = _object(
    ("item_id", "title"), item_id=ID, type=TEXT, title=TEXT, text=TEXT, category=TEXT, tags=_list(TEXT), price=NUMBER,
    media=_list(TEXT), published_at=AT, status={"enum": ["available", "unavailable"]}, attributes={"type": "object"},
    version=WHOLE,
)  # fmt: skip
BEHAVIOR = _object(
    ("event_id", "item_id", "type", "occurred_at"), event_id=ID, user_id=ID, session_id=ID, item_id=ID,
    type={"enum": list(BEHAVIOR_TYPES)}, value=NUMBER, scenario=ID, request_id=ID, position=WHOLE, occurred_at=AT,
)  # fmt: skip
USER = _object(("user_id",), user_id=ID, attributes={"type": "object"}, version=WHOLE)
CHANNEL = _object(("weight", "quota"), weight=NUMBER, quota=WHOLE)
PIN = _object(("item_id", "position"), item_id=ID, position=WHOLE)
CAP = _object(("by", "most"), by=TEXT, most=NUMBER, window=WHOLE)
FRESHNESS = {"oneOf": [{"type": "null"}, _object(("weight", "half_life_s"), weight=NUMBER, half_life_s=NUMBER)]}
EXPLORATION = {"oneOf": [{"type": "null"}, _object(("share",), share=NUMBER, temperature=NUMBER)]}
SCENARIO = _object(
    title=TEXT, channels={"type": "object", "additionalProperties": CHANNEL}, candidates=WHOLE, budget_s=NUMBER,
    exclude_seen=FLAG, ranked=FLAG, score=TEXT, from_context=FLAG, diversity=NUMBER,
    ranker={"enum": [BEST, *KINDS]}, diversifier={"enum": list(DIVERSIFIERS)},
    caps=_list(CAP), duplicate_likeness=NUMBER, freshness=FRESHNESS,
    exploration=EXPLORATION, pins=_list(PIN), hidden=_list(ID), listed=_list(ID),
)  # fmt: skip
RULE = _object(
    ("action", "items"), id=TEXT, action={"enum": list(ACTIONS)}, items=_list(FILTER), title=TEXT, scenarios=_list(ID),
    since=AT, until=AT, priority=WHOLE, amount=NUMBER, position=WHOLE, count=WHOLE, most=NUMBER, window=WHOLE,
    active=FLAG,
)  # fmt: skip
SHOWN_SCENARIO = {**SCENARIO, "properties": {"id": TEXT, **SCENARIO["properties"]}}
ASKED = RECOMMEND["properties"]
EXPLAIN = _object(("item_id", "scenario"), item_id=ID, **{k: v for k, v in ASKED.items() if k != "debug"})
SOURCE = _object(
    ("kind", "url"), id=TEXT, kind={"enum": list(source.KINDS)}, url=TEXT, type={"enum": list(source.TYPES)},
    every=WHOLE, category=TEXT, selectors={"type": "object", "additionalProperties": TEXT}, pages=FLAG, enabled=FLAG,
)  # fmt: skip
SHOWN_SOURCE = {**SOURCE, "properties": {**SOURCE["properties"], "state": {"type": "object"}}}
CHOSEN = _object(("topic", "ids"), topic=TEXT, ids={**_list(ID), "minItems": 1, "maxItems": 1000})
STORE = _object(store_id=TEXT, tenant_id=TEXT, title=TEXT, timezone=TEXT, attributes={"type": "object"})
EVENT_FIELDS: dict[str, Any] = {
    "event_id": ID, "event_type": ID, "event_source": ID, "store_id": ID, "data": {"type": "object"},
    "priority": {**WHOLE, "minimum": 0, "maximum": 10}, "occurred_at": AT,
}  # fmt: skip
EVENT = _object(("event_id", "event_type", "store_id"), **EVENT_FIELDS)
SCHEDULE_FIELDS: dict[str, Any] = Schedule.model_json_schema()["properties"]
TASK = _object(
    ("name",), name=TEXT, argument={"type": "object"}, args={"type": "array"}, kwargs={"type": "object"}, id=ID, key=ID,
    queue=TEXT, priority={**WHOLE, "minimum": 0, "maximum": 10}, eta=AT, countdown_s=NUMBER, after=_list(ID),
    whatever=FLAG, group=ID, tenant=TEXT,
)  # fmt: skip
MANY = _object(("tasks",), tasks={**_list(TASK), "minItems": 1, "maxItems": MOST_TASKS}, tenant=TEXT)
PART = {"type": "object", "description": "a task, a chain or a group"}
CHAIN = _object(("chain",), chain={**_list(PART), "minItems": 1}, key=ID, tenant=TEXT)
GROUP = _object(("group",), group={**_list(PART), "minItems": 1}, then=PART, key=ID, tenant=TEXT)
CHOSEN_TASKS = _object(("ids",), ids={**_list(ID), "minItems": 1, "maxItems": 1000})
NOTHING = _object()  # such a body may be left out
BODIES = {
    "put_schedule": _object(("handler",), **SCHEDULE_FIELDS),
    "preview_schedule": _object(**{**SCHEDULE_FIELDS, "n": WHOLE, "from": AT}),
    "pause_schedule": _object(note=TEXT),
    "resume_schedule": _object(),
    "trigger_schedule": _object(),
    "backfill_schedule": _object(("from", "to"), **{"from": AT, "to": AT, "order": {"enum": list(ORDERS)}}),
    "cancel_task": NOTHING,
    "submit_tasks": {"oneOf": [TASK, MANY, CHAIN, GROUP]},
    "replay_dead_tasks": CHOSEN_TASKS,
    "drop_dead_tasks": CHOSEN_TASKS,
    "steer_pool": _object(
        slots={"type": ["integer", "null"]},
        paused=FLAG,
        queues={"type": ["string", "object", "null"]},
        replicas={"type": ["integer", "null"]},
        restart=FLAG,
    ),
    "drop_letters": CHOSEN,
    "explain": EXPLAIN,
    "move_model": _object(("tenant", "status"), tenant=ID, status={"enum": ["live", "shadow", "retired"]}),
    "put_scenario": SHOWN_SCENARIO,
    "put_rule": RULE,
    "put_source": SHOWN_SOURCE,
    "recommend": RECOMMEND,
    "replay_letters": CHOSEN,
    "rollback_model": _object(("tenant",), tenant=ID, version=ID),
    "put_store": STORE,
    "send_events": {
        "type": "object",
        "oneOf": [EVENT, _object(("events",), events={**_list(EVENT), "minItems": 1, "maxItems": 1000})],
    },
    "steer_stream": _object(("paused",), paused=FLAG),
    "upsert_items": _object(("items",), wait=FLAG, items={**_list(ITEM), "minItems": 1, "maxItems": 1000}),
    "track_behaviors": _object(
        ("behaviors",), wait=FLAG, behaviors={**_list(BEHAVIOR), "minItems": 1, "maxItems": 1000}
    ),
    "upsert_users": _object(("users",), users={**_list(USER), "minItems": 1, "maxItems": 1000}),
}
REASON = _object(code=TEXT, text=TEXT)
SLATE = _object(
    request_id=TEXT, items=_list(_object(item_id=TEXT, score=NUMBER, channels=_list(TEXT), reason=REASON)),
    degraded=_list(_object(stage=TEXT, channel=TEXT, reason=TEXT)), arms={"type": "object"},
    versions={"type": "object"}, debug={"type": "object"},
)  # fmt: skip
REJECTED = _object(index=WHOLE, reason=TEXT, message=TEXT, metadata={"type": "object"})
BULK = _object(accepted=WHOLE, rejected=_list(REJECTED))
ERROR = _object(
    code=WHOLE, reason=TEXT, message=TEXT, metadata={"type": "object"}, accepted=WHOLE, rejected=_list(REJECTED)
)  # the last two where nothing of a bulk write was accepted
WINDOW = _object(
    since=WHOLE, impressions=WHOLE, clicks=WHOLE, conversions=WHOLE, users=WHOLE, late=WHOLE,
    ctr={"type": ["number", "null"]},
)  # fmt: skip
PARTITION = _object(flow=TEXT, topic=TEXT, partition=WHOLE, position=WHOLE, end=WHOLE, lag=WHOLE, member=TEXT)
FLOW = _object(
    flow=TEXT, topics=_list(TEXT), paused=FLAG, generation=WHOLE, members=WHOLE, lag=WHOLE, partitions=_list(PARTITION),
)  # fmt: skip
LETTER = _object(
    id=TEXT, flow=TEXT, why=TEXT, topic=TEXT, partition=WHOLE, position=WHOLE, appended_at=WHOLE, key=TEXT, body=TEXT,
    state=TEXT, whole=FLAG, generation=WHOLE, written_at=WHOLE,
)  # fmt: skip
POPULAR = _object(
    scenario=TEXT, category=TEXT, source={"enum": ["precomputed", "hot"]}, made_at=WHOLE,
    items=_list(_object(item_id=TEXT)),
)  # fmt: skip
PROFILE = _object(
    user_id=TEXT, recent=_list(_object(item_id=TEXT, at=WHOLE, weight=WHOLE, purchases=WHOLE)), seen=WHOLE,
    long_term={"type": ["object", "null"]},
)  # fmt: skip
KEPT = _object(**EVENT_FIELDS, effects={"type": ["array", "null"]}, score=NUMBER)
SHOWN_SCHEDULE = _object(
    **SCHEDULE_FIELDS, why=TEXT, next={"type": ["string", "null"]}, failures=WHOLE, counts={"type": "object"}
)
DUE = _list(_object(at=TEXT, local=TEXT, why=TEXT, jitter_ms=WHOLE))
ALERT = _object(part=TEXT, state={"enum": ["failed", "recovered"]}, why=TEXT, at=WHOLE)
OPEN = {"type": "object"}  # docs/api.md says what is in it
SHOWN_TASK = _object(
    id=TEXT, name=TEXT, tenant=TEXT, queue=TEXT, argument={"type": "object"}, state={"enum": [s.value for s in State]},
    attempts=WHOLE, result={}, error=TEXT, submitted_at=WHOLE, eta=WHOLE, started_at=WHOLE, ended_at=WHOLE,
    after=_list(TEXT), parent=TEXT, group=TEXT, trace=TEXT, key=TEXT, owner=TEXT, following=TEXT,
    progress={"type": "object"}, log=_list(TEXT),
)  # fmt: skip
TASKS = _object(tasks=_list(SHOWN_TASK))
POOL = _object(
    pool=TEXT, queues={"type": "object"}, slots=WHOLE, paused=FLAG, replicas=WHOLE, workers=WHOLE, running=WHOLE,
    waiting=WHOLE, oldest_s=NUMBER,
)  # fmt: skip
LINE = _object(queue=TEXT, length=WHOLE, oldest_s=NUMBER)
ANSWERS = {
    "submit_tasks": _object(id=TEXT, ids=_list(TEXT), group=TEXT, last=_list(TEXT)), "list_tasks": TASKS,
    "read_task_history": _object(attempts=_list(OPEN)), "cancel_task": _object(id=TEXT, state=TEXT),
    "get_task": SHOWN_TASK, "list_dead_tasks": TASKS, "replay_dead_tasks": _object(replayed=_list(TEXT)),
    "drop_dead_tasks": _object(dropped=_list(TEXT)), "list_workers": OPEN, "list_queues": _object(queues=_list(LINE)),
    "list_pools": _object(pools=_list(POOL)), "get_pool": POOL, "steer_pool": POOL,
    "get_trace": OPEN, "explain": OPEN,
    "read_realtime": _object(window=TEXT, scenario=TEXT, arm=TEXT, windows=_list(WINDOW)),
    "list_popular": POPULAR, "get_profile": PROFILE,
    "recommend": SLATE, "related": SLATE, "upsert_items": BULK, "track_behaviors": BULK, "upsert_users": BULK,
    "delete_item": BULK, "get_item": ITEM, "list_items": _object(items=_list(ITEM), next=TEXT), "get_user": USER,
    "list_scenarios": _object(scenarios=_list(SHOWN_SCENARIO)), "put_scenario": SHOWN_SCENARIO,
    "list_rules": _object(rules=_list(RULE)), "put_rule": RULE, "delete_rule": _object(deleted=TEXT),
    "list_streams": _object(flows=_list(FLOW)), "steer_stream": _object(flow=TEXT, paused=FLAG),
    "list_letters": _object(letters=_list(LETTER), waiting=WHOLE), "replay_letters": _object(sent=WHOLE),
    "drop_letters": _object(dropped=WHOLE), "list_models": _object(versions=_list(OPEN)),
    "compare_shadow": _object(shadows=_list(OPEN)), "show_model": OPEN, "move_model": OPEN, "rollback_model": OPEN,
    "list_schedules": _object(schedules=_list(SHOWN_SCHEDULE), next=TEXT), "preview_schedule": _object(preview=DUE),
    "get_schedule": _object(**{**SHOWN_SCHEDULE["properties"], "preview": DUE, "ledger": _list(OPEN)}),
    **dict.fromkeys(("put_schedule", "pause_schedule", "resume_schedule"), SHOWN_SCHEDULE),
    "delete_schedule": _object(deleted=WHOLE), "trigger_schedule": _object(task=TEXT),
    "backfill_schedule": _object(tasks=_list(TEXT), ran=WHOLE),
    "put_store": STORE, "get_store": STORE, "list_stores": _object(stores=_list(STORE), next=TEXT),
    "send_events": _object(accepted=WHOLE, rejected=_list(REJECTED), tasks=_list(TEXT)),
    "search_events": _object(events=_list(KEPT)), "get_event": KEPT,
    "search_collection": _object(documents=_list(_object(id=TEXT, data={"type": "object"}, score=NUMBER))),
    "list_sources": _object(sources=_list(SOURCE)), "get_source": SHOWN_SOURCE, "put_source": SOURCE,
    "delete_source": _object(deleted=TEXT), "list_documents": _object(documents=_list(OPEN), next=TEXT),
    "search_documents": _object(documents=_list(OPEN)), "get_document": OPEN,
    "list_reports": _object(reports=_list(OPEN)), "get_report": OPEN, "read_status": OPEN,
    "list_alerts": _object(alerts=_list(ALERT)),
}  # fmt: skip


def openapi() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for use in USES:
        paths.setdefault(use.path.replace(":path", ""), {})[use.method.lower()] = _operation(use)
    keys = {
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lemo", "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": keys, "schemas": {"Error": ERROR}},
        "security": [{"X-API-Key": []}, {"bearer": []}],
    }


def _operation(use: Use) -> dict[str, Any]:
    names = [(n.strip("{}").removesuffix(":path"), "path") for n in use.path.split("/") if n.startswith("{")]
    names += [(n, "query") for n in use.query]
    found: dict[str, Any] = {
        "operationId": use.name,
        "summary": use.about,
        "parameters": [{"name": n, "in": where, "required": where == "path", "schema": TEXT} for n, where in names],
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": ANSWERS[use.name]}}},
            "4XX": {"description": "refused", "content": {"application/json": {"schema": ERROR}}},
            "5XX": {
                "description": "an error of ours (500), a store is away (503, see Retry-After), or a write that "
                "is kept cannot be read yet (504)",
                "content": {"application/json": {"schema": ERROR}},
            },
        },
    }
    if use.name in BODIES:
        schema = BODIES[use.name]
        found["requestBody"] = {"required": schema != NOTHING, "content": {"application/json": {"schema": schema}}}
    return found
