"""Which ids a tenant may give to his tasks: none that the house will give to one of somebody else's."""

from __future__ import annotations

from typing import Any

import pytest

from ray_app.catalog.tenant import SYSTEM
from ray_app.errors import InvalidField
from ray_app.neural.event import task_id
from ray_app.serving.submissions import Context, parse
from ray_app.tasks.names import Names
from ray_app.tasks.schedule import occurrence_id
from ray_app.wiring.handlers import HANDLERS
from tests.unit.make import NOW

FETCH: dict[str, Any] = {"name": "fetch_url", "argument": {"url": "http://news.example/"}}


def context(tenant: str) -> Context:
    return Context(tenant, tenant, Names(HANDLERS), ("default",), NOW)


@pytest.mark.parametrize(
    "id",
    [task_id("other", "order-77"), occurrence_id("hourly_collection", NOW), "x.tenant.other", "document-1", "history"],
)
def test_an_id_that_the_house_makes_is_refused(id: str) -> None:
    """Else the event, or the run of the schedule, would be taken for one that was submitted already."""
    with pytest.raises(InvalidField) as refused:
        parse({**FETCH, "id": id}, context("shop"))
    assert refused.value.field == "id"


@pytest.mark.parametrize("id", ["0c8f9ac2-6d3e-4c5b-9f53-3d4c3f5f7a10", "nightly:7", "neural", "order_7"])
def test_any_other_id_is_his_to_give(id: str) -> None:
    assert parse({**FETCH, "id": id}, context("shop")).id == id


def test_an_operator_may_name_each() -> None:
    id = occurrence_id("hourly_collection", NOW)
    assert parse({**FETCH, "id": id}, context(SYSTEM)).id == id
