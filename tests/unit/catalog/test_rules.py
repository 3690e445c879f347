"""Rules as clients write them, and which are in force."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ray_app.catalog import rule_body, scenario_body
from ray_app.catalog.filter import Filter
from ray_app.catalog.reranking import Cap, Exploration, Freshness
from ray_app.catalog.rule import ACTIONS, FRESH_S, Rule, Rules, from_body
from ray_app.catalog.scenario import HOME, Scenario
from ray_app.catalog.scenario import from_body as scenario_from_body
from ray_app.clock import FixedClock
from ray_app.errors import InvalidField, NotFound
from ray_app.stores.memory import MemoryDocuments
from tests.unit.make import NOW

TEA: dict[str, Any] = {"field": "category", "op": "in", "value": ["tea", "pots"]}
KNOWN = scenario_body.Known(("hot",), ("mmr", "dpp"), ("trees",))


def parse(id: str = "r", **fields: Any) -> Rule:
    return rule_body.parse(id, {"action": "boost", "items": [TEA], **fields}, ["home", "related"])


def test_the_least_that_is_needed() -> None:
    assert parse() == Rule("r", "boost", (Filter("category", "in", ("tea", "pots")),))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"action": "lift"}, "action"), ({"action": None}, "action"), ({"items": []}, "items"),
        ({"items": "x"}, "items"),
        ({"items": [{"field": "colour", "op": "eq", "value": 1}]}, "items[0].field"), ({"amount": -1}, "amount"),
        ({"amount": "2"}, "amount"), ({"position": 1}, "position"), ({"action": "pin", "position": 200}, "position"),
        ({"action": "pin", "count": 0}, "count"), ({"action": "cap", "most": 1.5}, "most"),
        ({"action": "cap", "most": 0}, "most"), ({"action": "cap", "window": 201}, "window"),
        ({"scenarios": ["hom"]}, "scenarios"), ({"since": -1}, "since"), ({"since": 9, "until": 9}, "until"),
        ({"priority": 0.5}, "priority"), ({"colour": 1}, "colour"), ({"title": 7}, "title"),
    ],
)  # fmt: skip
def test_a_field_that_is_not_allowed_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(**fields)
    assert refused.value.field == named


@pytest.mark.parametrize("action", ACTIONS)
def test_a_rule_comes_back_from_its_document_and_from_what_was_shown(action: str) -> None:
    rule = parse(action=action, scenarios=["home"], since="2026-01-01", until=NOW, priority=3, title="Tea week")
    shown = orjson.loads(orjson.dumps(rule.public()))
    assert from_body(shown) == rule
    assert rule_body.parse(shown.pop("id"), shown, ["home"]) == rule


@pytest.mark.parametrize(
    ("scenario", "now", "expected"),
    [("home", 10, True), ("home", 9, False), ("home", 19, True), ("home", 20, False), ("related", 15, False)],
)
def test_a_rule_holds_where_and_while_it_says(scenario: str, now: int, expected: bool) -> None:
    assert parse(scenarios=["home"], since=10, until=20).holds(scenario, now) is expected
    assert parse().holds(scenario, now)


async def test_rules_come_by_priority_and_only_those_in_force(documents: MemoryDocuments, clock: FixedClock) -> None:
    rules = Rules(documents, clock)
    for rule in (
        parse("b"),
        parse("a"),
        parse("c", priority=9),
        parse("old", until=NOW),
        parse("far", scenarios=["related"]),
    ):
        await rules.put("t", rule)
    assert [r.id for r in await rules.of("t", "home")] == ["c", "a", "b"]
    assert len(await rules.list("t")) == 5
    assert await rules.of("u", "home") == ()


async def test_a_rule_begins_and_ends_without_being_read_again(documents: MemoryDocuments, clock: FixedClock) -> None:
    rules = Rules(documents, clock)
    await rules.put("t", parse(since=NOW + 100, until=NOW + 200))
    found = []
    for _ in range(3):
        found.append(len(await rules.of("t", "home")))
        clock.pass_s(0.1)
    assert found == [0, 1, 0]


async def test_another_replica_sees_a_rule_and_its_end_within_a_second(
    documents: MemoryDocuments, clock: FixedClock
) -> None:
    here, there = Rules(documents, clock), Rules(documents, clock)
    assert await there.of("t", "home") == ()
    await here.put("t", parse())
    clock.pass_s(2 * FRESH_S)
    assert len(await there.of("t", "home")) == 1
    await here.delete("t", "r")
    assert await here.of("t", "home") == ()
    clock.pass_s(2 * FRESH_S)
    assert await there.of("t", "home") == ()


async def test_an_unknown_rule_cannot_be_taken_away(documents: MemoryDocuments, clock: FixedClock) -> None:
    rules = Rules(documents, clock)
    await rules.put("t", parse())
    with pytest.raises(NotFound, match=r"'q' is unknown to tenant 't'\. Known: r"):
        await rules.delete("t", "q")


GOOD: dict[str, Any] = {
    "diversifier": "dpp",
    "caps": [{"by": "attributes.author", "most": 1, "window": 5}, {"by": "category", "most": 0.5}],
    "duplicate_likeness": 0.98, "freshness": {"weight": 0.1, "half_life_s": 86400}, "exploration": {"share": 0.1},
}  # fmt: skip


def scenario(**fields: Any) -> Scenario:
    return scenario_body.parse(fields, HOME, KNOWN)


def test_all_of_reranking_is_said_by_a_scenario_and_comes_back_from_its_document() -> None:
    found = scenario(**GOOD)
    assert found.caps == (Cap("attributes.author", 1.0, 5), Cap("category", 0.5))
    assert (found.freshness, found.exploration) == (Freshness(0.1, 86400.0), Exploration(0.1, 0.3))
    shown = orjson.loads(orjson.dumps(found.public()))
    assert scenario_from_body(shown) == found
    shown.pop("id")
    assert scenario_body.parse({k: v for k, v in shown.items() if k != "channels"}, HOME, KNOWN) == found
    assert scenario(freshness=None, exploration=None, caps=[]).caps == ()


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("diversifier", "mrr", "diversifier"), ("caps", {}, "caps"), ("caps", [{"by": "category"}], "caps[0]"),
        ("caps", [{"by": "author", "most": 1}], "caps[0].by"), ("caps", [{"by": "type", "most": 2.5}], "caps[0].most"),
        ("caps", [{"by": "type", "most": 1, "window": -1}], "caps[0].window"),
        ("duplicate_likeness", 1.1, "duplicate_likeness"), ("freshness", {"weight": 1}, "freshness"),
        ("freshness", {"weight": 1, "half_life_s": 0}, "freshness.half_life_s"),
        ("exploration", {"share": 2}, "exploration.share"), ("exploration", 0.1, "exploration"),
        ("exploration", {"share": 0.1, "temperature": 0}, "exploration.temperature"),
    ],
)  # fmt: skip
def test_a_scenario_that_says_it_wrongly_is_told_where(field: str, value: Any, named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        scenario(**{field: value})
    assert refused.value.field == named


def test_a_scenario_of_the_time_before_caps_keeps_its_share() -> None:
    old = {**HOME.public(), "category_share": 0.25}
    for name in ("caps", "diversifier", "duplicate_likeness", "freshness", "exploration"):
        del old[name]
    assert scenario_from_body(old).caps == (Cap("category", 0.25),)
    assert scenario_from_body({**old, "category_share": 1.0}).caps == ()
