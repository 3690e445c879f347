"""The HTTP door describes itself: every call, with all of its fields."""

from __future__ import annotations

from dataclasses import fields

import httpx
import pytest

from ray_app.catalog import item, rule, rule_body, scenario_body, store, user
from ray_app.content import source
from ray_app.events import schema
from ray_app.neural import event
from ray_app.operations.pool import FlowState, Line
from ray_app.recommend import ask
from ray_app.serving.app import App
from ray_app.serving.http import build
from ray_app.serving.http.openapi import ANSWERS, BODIES, openapi
from ray_app.serving.use import Use
from ray_app.serving.usecases import USES
from ray_app.streams.letters import Letter
from ray_app.tasks.schedule import Schedule

BULK = {"upsert_items": ("items", item.FIELDS), "track_behaviors": ("behaviors", schema.FIELDS)}
BULK |= {"upsert_users": ("users", user.FIELDS)}


def not_ready() -> App:
    raise AssertionError("the description needs no store")


@pytest.mark.parametrize("use", USES, ids=lambda use: use.name)
def test_every_call_is_described_with_its_answer_and_its_body(use: Use) -> None:
    found = openapi()["paths"][use.path.replace(":path", "")][use.method.lower()]
    assert found["operationId"] == use.name
    assert found["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "object"
    assert ("requestBody" in found) == (use.method in ("POST", "PUT"))


async def test_the_door_gives_the_description_before_any_store_is_there() -> None:
    transport = httpx.ASGITransport(build(not_ready))
    async with httpx.AsyncClient(transport=transport, base_url="http://lemo") as client:
        described = await client.get("/api/v1/openapi.json")
        assert (described.status_code, described.json()) == (200, openapi())
        assert "openapi.json" in (await client.get("/api/v1/docs")).text


def test_the_described_fields_are_those_that_are_read() -> None:
    of_rules = {"id", "active", *rule_body.FIELDS, *(f for own in rule.OF.values() for f in own)}
    assert set(BODIES["put_rule"]["properties"]) == of_rules
    assert set(BODIES["put_scenario"]["properties"]) == {"id", *scenario_body.FIELDS}
    assert set(BODIES["put_source"]["properties"]) == {"state", *source.FIELDS}
    assert set(BODIES["recommend"]["properties"]) == set(ask.FIELDS)
    assert set(BODIES["explain"]["properties"]) == {"item_id", *ask.FIELDS} - {"debug"}
    assert {"store_id", "tenant_id", *store.FIELDS} == set(BODIES["put_store"]["properties"])
    assert set(BODIES["put_schedule"]["properties"]) == set(Schedule.model_fields)
    one, bulk = BODIES["send_events"]["oneOf"]
    assert set(one["properties"]) == set(event.FIELDS)
    assert bulk["properties"]["events"]["items"] == one
    for use, (name, known) in BULK.items():
        assert set(BODIES[use]["properties"][name]["items"]["properties"]) == set(known)


def test_the_described_answers_to_operators_are_those_that_are_given() -> None:
    flow = ANSWERS["list_streams"]["properties"]["flows"]["items"]["properties"]
    partition, letter = flow["partitions"]["items"], ANSWERS["list_letters"]["properties"]["letters"]["items"]
    assert set(flow) == {f.name for f in fields(FlowState)} | {"partitions"}
    assert set(partition["properties"]) == {f.name for f in fields(Line)} | {"lag"}
    assert set(letter["properties"]) == {f.name for f in fields(Letter)}


async def test_a_head_asks_what_a_get_asks_and_a_wrong_method_is_told_from_a_wrong_path() -> None:
    transport = httpx.ASGITransport(build(not_ready))
    async with httpx.AsyncClient(transport=transport, base_url="http://lemo") as client:
        assert (await client.head("/health")).status_code == 200
        assert (await client.delete("/health")).json()["reason"] == "METHOD_NOT_ALLOWED"
        assert (await client.get("/healthy")).json()["reason"] == "NOT_FOUND"
