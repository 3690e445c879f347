"""Use cases of a tenant's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.catalog import rule_body
from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.serving.app import App

Ask = Mapping[str, Any]
Answer = dict[str, Any]


async def list_rules(app: App, tenant: str, raw: Ask) -> Answer:
    """The most important first; `active` says whether a rule is in force now, where it holds at all."""
    refuse_unknown(raw, ())
    now = app.clock.now()
    rules = await app.rules.list(tenant)
    return {"rules": [{**r.public(), "active": r.since <= now and (not r.until or now < r.until)} for r in rules]}


async def put_rule(app: App, tenant: str, raw: Ask) -> Answer:
    """Written whole; a replica sees it within a second."""
    fields = {k: v for k, v in raw.items() if k not in ("rule", "active")}  # what a list gave can be put back
    id = parse_id("rule", raw.get("rule"))
    if fields.pop("id", id) != id:
        raise InvalidField("id", raw["id"], f"{id!r}, as in the path, or none")
    rule = rule_body.parse(id, fields, [s.id for s in await app.scenarios.list(tenant)])
    await app.rules.put(tenant, rule)
    return rule.public()


async def delete_rule(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("rule",))
    id = parse_id("rule", raw.get("rule"))
    await app.rules.delete(tenant, id)
    return {"deleted": id}
