"""The weekly report of a tenant: traffic, CTR, conversion, items, models and health, as JSON and as a page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import orjson

from ray_app.analytics.examples import named
from ray_app.catalog.tenant import SYSTEM
from ray_app.operations.health import HEALTH, STATUS
from ray_app.operations.stores import House
from ray_app.registry.version import Status
from ray_app.stores.base import Document
from ray_app.types import DAY_MS

HERE = Path(__file__).parent
QUERIES = named(HERE / "report.sql")
KIND = "reports"
WEEK_MS, MOST_ITEMS = 7 * DAY_MS, 20
Row = Mapping[str, Any]


async def weekly(house: House, tenant: str, until: int | None = None) -> dict[str, Any]:
    """The report of the seven whole days (UTC) before `until` (ms; now). It is a document of kind `reports`, named by
    its last day, and lies beside it as report.json and report.html in the blobs. Made again it replaces itself."""
    end = until or house.clock.now()
    end -= end % DAY_MS
    made = await _figures(house, tenant, end)
    folder = f"{tenant}/reports/{made['id']}"
    for name, body in {"report.json": orjson.dumps(made), "report.html": page(made).encode()}.items():
        await asyncio.to_thread(house.blobs.put, f"{folder}/{name}", body)
    await house.documents.upsert(tenant, KIND, [Document(made["id"], house.clock.now(), {**made, "files": folder})])
    return made


async def _figures(house: House, tenant: str, end: int) -> dict[str, Any]:
    asked = {"tenant": tenant, "since": end - WEEK_MS, "until": end, "most": MOST_ITEMS}
    found = {name: await house.olap.query(sql, asked) for name, sql in QUERIES.items()}
    total = {**found["totals"][0], "answers": sum(r["answers"] for r in found["traffic"])}
    health = await house.documents.get(SYSTEM, STATUS, HEALTH)
    live = [v for v in await house.registry.list(tenant) if v.status is Status.LIVE]
    return {
        "id": _day(end - 1), "tenant_id": tenant, "since": end - WEEK_MS, "until": end, "made_at": house.clock.now(),
        "totals": {**total, "ctr": share(total["clicks"], total["impressions"]),
                   "conversion": share(total["purchases"], total["clicks"])},
        "days": _days(found["traffic"], found["behaviors"], end),
        "items": [{**row, "ctr": share(row["clicks"], row["impressions"])} for row in found["items"]],
        "models": [{"name": v.name, "version": v.id, "made_at": v.made_at, "metrics": dict(v.metrics)} for v in live],
        "health": {k: health.body[k] for k in ("status", "failed", "at")} if health else None,
    }  # fmt: skip


def share(part: int, of: int) -> float | None:
    """None of nothing."""
    return round(part / of, 6) if of else None


def _days(traffic: Sequence[Row], behaviors: Sequence[Row], end: int) -> list[dict[str, Any]]:
    """All seven, those without traffic too."""
    empty = {"answers": 0, "visitors": 0, "impressions": 0, "clicks": 0, "purchases": 0, "active": 0}
    known: dict[int, dict[str, Any]] = {}
    for row in (*traffic, *behaviors):
        known.setdefault(row["day"], {}).update(row)
    return [{**empty, **known.get(day, {}), "day": _day(day)} for day in range(end - WEEK_MS, end, DAY_MS)]


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def page(made: Row) -> str:
    """The report as one HTML page; every value from outside is escaped."""
    health = made["health"]
    failed = ", ".join(health["failed"]) if health and health["failed"] else ""
    said = "not checked yet" if health is None else failed or "all is well"
    models = [{**m, "made_at": _day(m["made_at"]), "metrics": _metrics(m["metrics"])} for m in made["models"]]
    return Template((HERE / "report.html").read_text()).substitute({
        "tenant": escape(made["tenant_id"]), "from": _day(made["since"]), "to": made["id"],
        "totals": _table([made["totals"]]), "days": _table(made["days"]), "items": _table(made["items"]),
        "models": _table(models), "health": escape(said),
    })  # fmt: skip


def _metrics(found: Mapping[str, float]) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in list(found.items())[:4])


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(_shown(v))}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if isinstance(value, float) else str(value)
