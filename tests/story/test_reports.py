"""A report that a task made, and what the last health check found, by the door."""

from __future__ import annotations

import pytest

from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM
from ray_app.operations import health, report
from tests.story.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_tenant_reads_its_own_reports_alone(new_shop: Shop, shop: Shop) -> None:
    made = await report.weekly(new_shop.world, new_shop.tenant)
    listed = (await new_shop.http.get("/api/v1/reports")).json()["reports"]
    assert [r["id"] for r in listed] == [made["id"]]
    whole = (await new_shop.http.get(f"/api/v1/reports/{made['id']}")).json()
    assert whole["totals"] == made["totals"]
    assert len(whole["days"]) == 7
    missing = await shop.http.get(f"/api/v1/reports/{made['id']}")
    assert (missing.status_code, missing.json()["reason"]) == (404, "NOT_FOUND")


async def test_operators_read_status_and_alerts_and_tenants_do_not(new_shop: Shop) -> None:
    world = new_shop.world
    found = await health.check(world, wiring.pool(world))
    key = {"X-API-Key": await Keys(world.documents, world.clock).create(SYSTEM)}
    status = (await new_shop.http.get("/api/v1/status", headers=key)).json()
    assert (status["at"], status["failed"]) == (found["at"], found["failed"])
    alerts = await new_shop.http.get("/api/v1/alerts", params={"n": 5}, headers=key)
    assert alerts.json() == {"alerts": found["alerts"]}
    for path in ("status", "alerts"):
        assert (await new_shop.http.get(f"/api/v1/{path}")).status_code == 403
