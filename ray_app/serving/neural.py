"""Use cases of stores and of what they report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.catalog import store
from ray_app.catalog.store import Stores
from ray_app.catalog.tenant import SYSTEM, parse_tenant
from ray_app.errors import InvalidField, NotFound
from ray_app.events.schema import parse_id, parse_time, refuse_unknown
from ray_app.neural import batch, event, process
from ray_app.neural.event import NeuralEvent
from ray_app.neural.search import Collection, Found
from ray_app.serving.app import App
from ray_app.serving.bulk import append, sort
from ray_app.serving.fields import parse_count
from ray_app.serving.use import Answer, Ask, Use
from ray_app.stores.base import Where

MOST_FOUND, MOST_QUERY = 200, 4000


def stores_of(app: App) -> Stores:
    return Stores(app.documents, app.redis, app.settings.stores.redis_prefix, app.clock)


async def put_store(app: App, tenant: str, raw: Ask) -> Answer:
    """Written whole. An operator names the tenant; with a tenant's key it is his."""
    fields = dict(raw)
    id = parse_id("store", fields.pop("store", None))
    if fields.pop("store_id", id) != id:
        raise InvalidField("store_id", raw["store_id"], f"{id!r}, as in the path, or none")
    made = store.parse(id, _tenant(tenant, fields.pop("tenant_id", None)), fields)
    await stores_of(app).put(made)
    return made.public()


def _tenant(own: str, named: object) -> str:
    if own == SYSTEM:
        return parse_tenant(named)
    if named not in (None, own):
        raise InvalidField("tenant_id", named, f"{own!r}, whose key it is, or none")
    return own


async def get_store(app: App, tenant: str, raw: Ask) -> Answer:
    return (await stores_of(app).get(parse_id("store", raw.get("store")), tenant)).public()


async def list_stores(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("limit", "after"))
    limit = parse_count("limit", raw.get("limit", 100), 1000)
    found = await stores_of(app).list(tenant, limit + 1, str(raw.get("after") or ""))
    answer: Answer = {"stores": [s.public() for s in found[:limit]]}
    return {**answer, "next": found[limit - 1].id} if len(found) > limit else answer


async def send_events(app: App, tenant: str, raw: Ask) -> Answer:
    """One event, or `events` in bulk. The log has what is accepted before the answer; its tasks follow, under ids that
    the answer names."""
    given = raw.get("events", [raw]) if isinstance(raw, Mapping) else [raw]
    if "events" in raw:
        refuse_unknown(raw, ("events",))
    now, known = app.clock.now(), await _stores_named(app, tenant, given)

    def parse(one: Mapping[str, Any]) -> NeuralEvent:
        found = event.parse(one, now)
        if found.store_id not in known:
            allowed = f"a store of tenant {tenant!r}" if tenant != SYSTEM else "a store that was made"
            raise InvalidField("store_id", found.store_id, f"{allowed}; make it: PUT /api/v1/stores/{found.store_id}")
        return found

    found = sort("events", given, parse)
    await append(app.log, app.settings.events.neural_topic, [e.entry() for e in found.accepted])
    ids = [event.task_id(known[e.store_id], e.event_id) for e in found.accepted]
    return {**found.answer(), "tasks": ids}


async def _stores_named(app: App, tenant: str, given: object) -> dict[str, str]:
    """Tenant by store, of the stores that these events name and this key may speak for."""
    elements = given if isinstance(given, list) else []
    named = [str(e["store_id"]) for e in elements if isinstance(e, Mapping) and e.get("store_id") is not None]
    found = await stores_of(app).among([n for n in named if n]) if named else {}
    return {id: s.tenant for id, s in found.items() if tenant in (SYSTEM, s.tenant)}


async def search_events(app: App, tenant: str, raw: Ask) -> Answer:
    """The nearest to a text, or without one the newest; of a type, a store, a source, a time."""
    refuse_unknown(raw, ("q", "type", "store", "source", "from", "to", "n"))
    fields = {"type": "event_type", "store": "store_id", "source": "event_source"}
    where = [Where(fields[f], "eq", parse_id(f, raw[f])) for f in fields if raw.get(f) is not None]
    where += [Where("at", "gte", _time("from", raw["from"]))] if raw.get("from") is not None else []
    where += [Where("at", "lte", _time("to", raw["to"]) - 1)] if raw.get("to") is not None else []
    found = await _found(Collection(app.documents, app.vectors, tenant, process.KIND), raw, where)
    return {"events": [{**_event(f.document.body), **_score(f)} for f in found]}


async def get_event(app: App, tenant: str, raw: Ask) -> Answer:
    id = parse_id("event_id", raw.get("event_id"))
    found = await app.documents.get(tenant, process.KIND, id)
    if found is None:
        raise NotFound(f"event {id!r} is unknown to tenant {tenant!r}", field="event_id", value=id)
    return _event(found.body)


async def search_collection(app: App, tenant: str, raw: Ask) -> Answer:
    """What `index_to_vector_db` and `batch_index_orders` put into a collection."""
    refuse_unknown(raw, ("collection", "q", "n"))
    into = batch.collection(app.documents, app.vectors, tenant, parse_id("collection", raw.get("collection")))
    found = await _found(into, raw, [])
    return {"documents": [{"id": f.document.id, "data": f.document.body["data"], **_score(f)} for f in found]}


async def _found(into: Collection, raw: Ask, where: list[Where]) -> list[Found]:
    n, text = parse_count("n", raw.get("n", 20), MOST_FOUND), raw.get("q") or ""
    if not isinstance(text, str) or len(text) > MOST_QUERY:
        raise InvalidField("q", text, f"at most {MOST_QUERY} characters")
    return await (into.search(text, n, where) if text.strip() else into.newest(n, where))


def _score(found: Found) -> Answer:
    return {} if found.score is None else {"score": found.score}


def _event(body: Mapping[str, Any]) -> Answer:
    return {**event.event_of(body).public(), "effects": body["effects"]}


def _time(field: str, value: Any) -> int:
    return parse_time(field, int(value) if isinstance(value, str) and value.isdigit() else value)


USES = (
    Use("put_store", "PUT", "/api/v1/stores/{store}", put_store, "Write a store: whose events and orders are these"),
    Use("list_stores", "GET", "/api/v1/stores", list_stores, "The tenant's stores", query=("limit", "after")),
    Use("get_store", "GET", "/api/v1/stores/{store}", get_store, "One store"),
    Use("send_events", "POST", "/api/v1/neural-events", send_events,
        "What stores report: orders, payments, stock, dishes, staff; one event, or in bulk"),
    Use("search_events", "GET", "/api/v1/neural-events/search", search_events,
        "Events of stores by text, or the newest", query=("q", "type", "store", "source", "from", "to", "n")),
    Use("get_event", "GET", "/api/v1/neural-events/{event_id:path}", get_event, "One event, and what it did"),
    Use("search_collection", "GET", "/api/v1/collections/{collection}/search", search_collection,
        "What tasks put into the vector database, by text, or the newest", query=("q", "n")),
)  # fmt: skip
