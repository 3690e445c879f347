"""Use cases of operators: versions of trained models. Whose they are stands in the ask, and the key is the house's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.catalog.tenant import parse_tenant
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.operations.models import public
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count
from ray_app.serving.operators import only_operators

Ask = Mapping[str, Any]
Answer = dict[str, Any]
MOST_DAYS = 400


async def list_models(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("tenant", "name"))
    name = parse_id("name", raw["name"]) if raw.get("name") is not None else None
    return {"versions": [public(v) for v in await app.models.versions(_of(raw), name)]}


async def show_model(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("tenant", "name", "version"))
    return await app.models.show(_of(raw), *_version(raw))


async def move_model(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("tenant", "name", "version", "status"))
    moved = await app.models.move(_of(raw), *_version(raw), str(raw.get("status")))
    return {**public(moved)}


async def rollback_model(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("tenant", "name", "version"))
    to = parse_id("version", raw["version"]) if raw.get("version") is not None else None
    return {**public(await app.models.rollback(_of(raw), parse_id("name", raw.get("name")), to))}


async def compare_shadow(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("tenant", "days"))
    asked = raw.get("days")
    days = 1 if asked in (None, "") else parse_count("days", asked, MOST_DAYS)
    return {"shadows": await app.models.compare(_of(raw), days)}


def _of(raw: Ask) -> str:
    return parse_tenant(raw.get("tenant"))


def _version(raw: Ask) -> tuple[str, str]:
    return parse_id("name", raw.get("name")), parse_id("version", raw.get("version"))
