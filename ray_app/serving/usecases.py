"""The table of use cases: both doors are made from it, so that no method can forget the key, a limit or an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ray_app.catalog import item, scenario_body, sold_out, user
from ray_app.errors import InvalidField, NotFound
from ray_app.events.schema import behavior_entry, delete_entry, item_entry, parse_behavior, parse_id, refuse_unknown
from ray_app.models.diversity import DIVERSIFIERS
from ray_app.models.ranker import KINDS
from ray_app.recommend import ask as asks
from ray_app.recommend.channels import KNOWN
from ray_app.serving import (
    content,
    explains,
    figures,
    models,
    neural,
    operators,
    prepared,
    reports,
    rules,
    schedules,
    tasks,
)
from ray_app.serving.app import App
from ray_app.serving.bulk import append, sort, wait_readable
from ray_app.serving.fields import parse_count, parse_flag
from ray_app.serving.use import Answer, Ask, Use
from ray_app.stores.base import Document, Where
from ray_app.types import Slate

MOST_LISTED = 1000
NAMES = scenario_body.Known(KNOWN, tuple(DIVERSIFIERS), tuple(KINDS))


async def recommend(app: App, tenant: str, raw: Ask) -> Answer:
    ask = asks.parse(raw)
    decision = await app.recommender.decide(tenant, ask)
    app.slates.put(decision.slate)
    app.traces.put(decision)
    answer = answer_of(decision.slate)
    return {**answer, "debug": await explains.debug(decision)} if ask.debug else answer


def answer_of(slate: Slate) -> Answer:
    """The slate as the wire has it."""
    return {
        "request_id": slate.request_id,
        "items": [
            {"item_id": i.item_id, "score": i.score, "channels": list(i.channels),
             "reason": {"code": i.reason.code, "text": i.reason.text}}
            for i in slate.items
        ],
        "degraded": [
            {"stage": d.stage, "reason": d.reason, **({"channel": d.channel} if d.channel else {})}
            for d in slate.degraded
        ],
        "arms": dict(slate.arms),
        "versions": dict(slate.versions),
    }  # fmt: skip


async def related(app: App, tenant: str, raw: Ask) -> Answer:
    known = dict(raw)
    asked = {"scenario": "related", "context_item_id": known.pop("item_id"), **known}
    return await recommend(app, tenant, asked)


async def upsert_items(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("items", "wait"))
    now, wait = app.clock.now(), parse_flag("wait", raw.get("wait"))
    found = sort("items", raw.get("items"), lambda one: item.parse(one, tenant, now))
    appended = await append(app.log, app.settings.events.item_topic, [item_entry(i) for i in found.accepted])
    if wait and appended:
        await wait_readable(app, tenant, "items", appended)
    return found.answer()


async def get_item(app: App, tenant: str, raw: Ask) -> Answer:
    id = parse_id("item_id", raw.get("item_id"))
    found = await app.documents.get(tenant, "items", id)
    if found is None:
        raise NotFound(f"item {id!r} is unknown to tenant {tenant!r}", field="item_id", value=id)
    return (await _public(app, tenant, [found]))[0]


async def list_items(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("limit", "after", "category", "type"))
    limit = parse_count("limit", raw.get("limit", 100), MOST_LISTED)
    where = [Where(f, "eq", raw[f]) for f in ("category", "type") if raw.get(f) is not None]
    found = await app.documents.find(tenant, "items", where, limit + 1, str(raw.get("after") or ""))
    answer: Answer = {"items": await _public(app, tenant, found[:limit])}
    return {**answer, "next": found[limit - 1].id} if len(found) > limit else answer


async def _public(app: App, tenant: str, found: Sequence[Document]) -> list[Answer]:
    """As a client reads them: what is sold out is unavailable, whatever was written of it."""
    out = {c.item_id for c in await sold_out.among(app.documents, tenant, [d.id for d in found]) if c.sold_out}
    return [{**item.public(d.body), **({"status": item.UNAVAILABLE} if d.id in out else {})} for d in found]


async def delete_item(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("item_id", "version", "wait"))
    id, wait = parse_id("item_id", raw.get("item_id")), parse_flag("wait", raw.get("wait"))
    entry = delete_entry(tenant, id, item.parse_version(raw.get("version"), app.clock.now()))
    appended = await app.log.append(app.settings.events.item_topic, [entry])
    if wait:
        await wait_readable(app, tenant, "items", appended)
    return {"accepted": 1, "rejected": []}


async def track_behaviors(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("behaviors", "wait"))
    now, wait = app.clock.now(), parse_flag("wait", raw.get("wait"))
    found = sort("behaviors", raw.get("behaviors"), lambda one: parse_behavior(one, tenant, now))
    entries = [behavior_entry(b) for b in found.accepted]
    appended = await append(app.log, app.settings.events.behavior_topic, entries)
    if wait and appended:
        await wait_readable(app, tenant, "profile", appended)
    return found.answer()


async def upsert_users(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("users",))
    found = sort("users", raw.get("users"), lambda one: user.parse(one, app.clock.now()))
    await app.documents.upsert(tenant, user.KIND, found.accepted)
    return found.answer()


async def get_user(app: App, tenant: str, raw: Ask) -> Answer:
    id = parse_id("user_id", raw.get("user_id"))
    found = await app.documents.get(tenant, user.KIND, id)
    if found is None:
        raise NotFound(f"user {id!r} has no known fields at tenant {tenant!r}", field="user_id", value=id)
    return user.public(found.body)


async def list_scenarios(app: App, tenant: str, raw: Ask) -> Answer:
    return {"scenarios": [s.public() for s in await app.scenarios.list(tenant)]}


async def put_scenario(app: App, tenant: str, raw: Ask) -> Answer:
    """A new one begins as `home`; a replica sees the change within a second."""
    fields = dict(raw)
    id = scenario_body.parse_scenario_id(fields.pop("scenario"))
    if fields.pop("id", id) != id:
        raise InvalidField("id", raw["id"], f"{id!r}, as in the path, or none")
    known = {s.id: s for s in await app.scenarios.list(tenant)}
    base = known.get(id) or replace(known["home"], id=id, title=id)
    made = scenario_body.parse(fields, base, NAMES)
    await app.scenarios.put(tenant, made)
    return made.public()


ITEM = "/api/v1/items/{item_id:path}"
USES = (
    Use("recommend", "POST", "/api/v1/recommend", recommend, "Ranked items for one visitor", "Recommend"),
    Use("get_trace", "GET", "/api/v1/recommend/{request_id:path}/trace", explains.get_trace,
        "How the answer of that id came to be", "GetTrace"),
    Use("explain", "POST", "/api/v1/recommend/explain", explains.explain,
        "Why an item is in an answer, or why it is not", "Explain"),
    Use("related", "GET", ITEM + "/related", related, "Items near one item",
        query=("n", "user_id", "session_id", "debug")),
    Use("list_popular", "GET", "/api/v1/popular", prepared.list_popular, "What is popular, whole or in a category",
        "ListPopular", ("scenario", "category", "n")),
    Use("upsert_items", "POST", "/api/v1/items", upsert_items, "Write items in bulk", "UpsertItems", ("wait",)),
    Use("list_items", "GET", "/api/v1/items", list_items, "Items by id, page by page", "ListItems",
        ("limit", "after", "category", "type")),
    Use("get_item", "GET", ITEM, get_item, "One item", "GetItem"),
    Use("delete_item", "DELETE", ITEM, delete_item, "Take an item away", "DeleteItem", ("version", "wait")),
    Use("track_behaviors", "POST", "/api/v1/behaviors", track_behaviors, "What visitors did, in bulk",
        "TrackBehaviors", ("wait",)),
    Use("upsert_users", "POST", "/api/v1/users", upsert_users, "Write known fields of users in bulk"),
    Use("get_profile", "GET", "/api/v1/users/{user_id:path}/profile", prepared.get_profile,
        "What a user did lately, and cared for over months"),
    Use("get_user", "GET", "/api/v1/users/{user_id:path}", get_user, "Known fields of one user"),
    Use("list_scenarios", "GET", "/api/v1/scenarios", list_scenarios, "The tenant's scenarios"),
    Use("put_scenario", "PUT", "/api/v1/scenarios/{scenario}", put_scenario,
        "Make a scenario, or change the fields that are sent: channels, pins, hidden items and others"),
    Use("list_rules", "GET", "/api/v1/rules", rules.list_rules, "The tenant's rules, the most important first"),
    Use("put_rule", "PUT", "/api/v1/rules/{rule}", rules.put_rule,
        "Write a rule: what is pinned, boosted, buried, hidden or capped, where and for how long"),
    Use("delete_rule", "DELETE", "/api/v1/rules/{rule}", rules.delete_rule, "Take a rule away"),
    Use("read_realtime", "GET", "/api/v1/analytics/realtime", figures.read_realtime,
        "Impressions, clicks, conversions and users of the last minutes, hours or days",
        query=("window", "n", "scenario", "arm")),
    Use("list_streams", "GET", "/api/v1/streams", operators.list_streams, "Where each flow stands (operator's key)"),
    Use("steer_stream", "PUT", "/api/v1/streams/{flow}", operators.steer_stream,
        "Pause a flow, or let it go on (operator's key)"),
    Use("list_letters", "GET", "/api/v1/dead-letters", operators.list_letters,
        "What flows could not read (operator's key)", query=("topic",)),
    Use("replay_letters", "POST", "/api/v1/dead-letters/replay", operators.replay_letters,
        "Send letters to their topic again (operator's key)"),
    Use("list_models", "GET", "/api/v1/models", models.list_models,
        "Versions of a tenant's models (operator's key)", query=("tenant", "name")),
    Use("compare_shadow", "GET", "/api/v1/models/shadow", models.compare_shadow,
        "The shadow ranker beside the live one, on real answers (operator's key)", query=("tenant", "days")),
    Use("show_model", "GET", "/api/v1/models/{name}/{version}", models.show_model,
        "One version: figures, lineage, files, and whether they are whole (operator's key)", query=("tenant",)),
    Use("move_model", "PUT", "/api/v1/models/{name}/{version}", models.move_model,
        "Make a version live, the shadow, or retired (operator's key)"),
    Use("rollback_model", "POST", "/api/v1/models/{name}/rollback", models.rollback_model,
        "Back to what was live before (operator's key)"),
    Use("drop_letters", "POST", "/api/v1/dead-letters/drop", operators.drop_letters,
        "Let letters go (operator's key)"),
    *neural.USES,
    *content.USES,
    *schedules.USES,
    *reports.USES,
    *tasks.USES,
)  # fmt: skip
