"""The handlers that keep the house well: cleanup, health and reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM, parse_tenant
from ray_app.errors import Forbidden, InvalidField
from ray_app.operations import cleanup, health, report
from ray_app.operations.health import Look
from ray_app.operations.pool import Pool
from ray_app.operations.stores import House
from ray_app.tasks.schedule import YEAR_2100
from ray_app.tasks.task import State, Submission
from ray_app.tasks.work import Fail, Handler, Retry, Run
from ray_app.types import DAY_MS

Clean = Callable[[Any], Awaitable[Mapping[str, int]]]  # of the opened World: what another subject cleans, and how much
Pooled = Callable[[Any], Pool]  # of the opened World
Looks = Callable[[Any], Mapping[str, Look]]  # of the opened World: parts that another subject knows
OLD_A, OLD_C = "app.tasks.recommendation_tasks", "atlas.scheduler.celery_tasks"


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReportAsk(Ask):
    """`tenant`: of a task of the house, whose; every one where it is not said. `until` (ms): the end of the week, now
    where it is not said."""

    tenant: str | None = None
    until: int | None = Field(None, ge=DAY_MS, le=YEAR_2100)


def handlers(pool: Pooled, cleans: Sequence[Clean] = (), looks: Looks = lambda w: {}) -> tuple[Handler, ...]:
    """`cleans`: what daily_cleanup does beside the dead letters."""

    async def health_check(ask: Ask, run: Run) -> dict[str, Any]:
        only_house(run)
        return await health.check(run.stores, pool(run.stores), looks(run.stores))

    async def daily_cleanup(ask: Ask, run: Run) -> dict[str, Any]:
        """{deleted, letters, tasks, ...}: how much in all, and by kind."""
        only_house(run)
        found = dict(await cleanup.letters(run.stores))
        for clean in cleans:
            found |= await clean(run.stores)
        return {"deleted": sum(found.values()), **found}

    return (
        Handler(health_check, Ask, name="health_check", aliases=(f"{OLD_C}.health_check",), retry=Retry(0), house=True),
        Handler(daily_cleanup, Ask, name="daily_cleanup", aliases=(f"{OLD_C}.daily_cleanup",), house=True),
        Handler(
            clean_caches,
            Ask,
            name="cleanup-expired-cache-daily",
            aliases=(f"{OLD_A}.cleanup_expired_cache",),
            house=True,
        ),
        Handler(
            weekly_report,
            ReportAsk,
            name="weekly_report",
            aliases=(f"{OLD_C}.weekly_report",),
            verdicts={Forbidden: "fail", InvalidField: "fail"},
        ),
    )


async def clean_caches(ask: Ask, run: Run) -> dict[str, Any]:
    """{deleted, artifacts, lists, runs, ...}: how much in all, and by kind."""
    only_house(run)
    found = await cleanup.caches(run.stores)
    return {"deleted": sum(found.values()), **found}


async def weekly_report(ask: ReportAsk, run: Run) -> dict[str, Any]:
    """{report, tenant}; of the house without a tenant: {reports: {tenant: id}, failed: {tenant: why}}, and Fail where
    none succeeded."""
    tenant = parse_tenant(ask.tenant) if ask.tenant is not None else run.tenant
    if run.tenant not in (SYSTEM, tenant):
        raise Forbidden(f"the task is of tenant {run.tenant!r} and may not report on {tenant!r}")
    if tenant != SYSTEM:
        return {"report": (await report.weekly(run.stores, tenant, ask.until))["id"], "tenant": tenant}
    house: House = run.stores
    argument = {} if ask.until is None else {"until": ask.until}
    tenants = await Keys(house.documents, house.clock).tenants()
    found = await run.gather(*(Submission("weekly_report", argument, t, id=f"{run.id}.{t}") for t in tenants))
    failed = {t.tenant: t.error or t.state.value for t in found if t.state is not State.SUCCESS}
    if failed and len(failed) == len(found):
        why = "; ".join(f"{k}: {why[:200]}" for k, why in failed.items())
        raise Fail(f"weekly_report succeeded for no tenant: {why}")
    return {"reports": {t.tenant: t.result["report"] for t in found if t.tenant not in failed}, "failed": failed}


def only_house(run: Run) -> None:
    """Raises Fail for a task of a tenant."""
    if run.tenant != SYSTEM:
        raise Fail(f"tenant {run.tenant!r} may not: this is about the whole house. Send it with an operator's key")
