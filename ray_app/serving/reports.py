"""Use cases of reports, which are a tenant's own, and of status and alerts, which are the house's."""

from __future__ import annotations

from ray_app.catalog.tenant import SYSTEM
from ray_app.errors import NotFound
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.operations.health import ALERTS, HEALTH, STATUS
from ray_app.operations.report import KIND
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count
from ray_app.serving.operators import only_operators
from ray_app.serving.use import Answer, Ask, Use

MOST = 1000
ALL = 100_000
SHORT = ("id", "since", "until", "made_at", "totals")


async def list_reports(app: App, tenant: str, raw: Ask) -> Answer:
    """The newest first."""
    refuse_unknown(raw, ())
    found = await app.documents.find(tenant, KIND, limit=ALL)
    return {"reports": [{k: d.body[k] for k in SHORT} for d in reversed(found)][:MOST]}


async def get_report(app: App, tenant: str, raw: Ask) -> Answer:
    id = parse_id("report", raw.get("report"))
    found = await app.documents.get(tenant, KIND, id)
    if found is None:
        raise NotFound(f"tenant {tenant!r} has no report {id!r}. See: GET /api/v1/reports", field="report", value=id)
    return dict(found.body)


async def list_alerts(app: App, tenant: str, raw: Ask) -> Answer:
    """The newest first."""
    only_operators(tenant)
    refuse_unknown(raw, ("n",))
    n = parse_count("n", raw.get("n", 100), MOST)
    found = await app.documents.find(SYSTEM, ALERTS, limit=ALL)
    return {"alerts": sorted((dict(d.body) for d in found), key=lambda a: a["at"], reverse=True)[:n]}


async def read_status(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ())
    found = await app.documents.get(SYSTEM, STATUS, HEALTH)
    if found is None:
        raise NotFound("health was not checked yet. Submit the task health_check, or wait for its schedule")
    return dict(found.body)


USES = (
    Use("list_reports", "GET", "/api/v1/reports", list_reports, "The tenant's weekly reports, the newest first"),
    Use("get_report", "GET", "/api/v1/reports/{report}", get_report, "One weekly report"),
    Use("read_status", "GET", "/api/v1/status", read_status, "What the last health check found (operator's key)"),
    Use("list_alerts", "GET", "/api/v1/alerts", list_alerts, "What failed and recovered (operator's key)",
        query=("n",)),
)  # fmt: skip
