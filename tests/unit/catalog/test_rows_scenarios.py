"""Row numbers and scenarios, kept as documents."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from ray_app.catalog import rows
from ray_app.catalog.scenario import BUILT_IN, FRESH_S, HOME, Channel, Pin, Scenario, Scenarios, from_body
from ray_app.clock import FixedClock
from ray_app.errors import UnknownScenario
from ray_app.stores.base import Document
from ray_app.stores.memory import MemoryDocuments

OWN = Scenario(
    "front", "Front page", {"hot": Channel(1.0, 5)}, pins=(Pin("a", 0), Pin("b", 3)), hidden=frozenset({"x", "y"})
)


async def assign(documents: MemoryDocuments, tenant: str, ids: list[str]) -> dict[str, int]:
    """As the items flow does."""
    stored = await documents.get_many(tenant, "items", ids, deleted=True)
    return await rows.assign(documents, tenant, ids, stored)


async def test_a_row_is_given_once_and_kept_also_after_a_delete(documents: MemoryDocuments) -> None:
    assert await assign(documents, "t", ["a", "b", "a"]) == {"a": 0, "b": 1}
    await documents.upsert("t", "items", [Document("a", 1, {"row": 0}), Document("b", 1, {"row": 1}, deleted=True)])
    assert await assign(documents, "t", ["b", "c", "a"]) == {"a": 0, "b": 1, "c": 2}
    assert await assign(documents, "t", []) == {}


async def test_tenants_count_their_own_rows_and_two_members_never_give_one_twice(documents: MemoryDocuments) -> None:
    assert await assign(documents, "u", ["a"]) == {"a": 0}
    given = await asyncio.gather(*(assign(documents, "t", [f"i{n}", f"j{n}"]) for n in range(20)))
    numbers = [r for one in given for r in one.values()]
    assert sorted(numbers) == list(range(40))


async def test_an_item_that_was_cut_off_before_its_write_leaves_a_gap(documents: MemoryDocuments) -> None:
    await assign(documents, "t", ["a"])
    assert await assign(documents, "t", ["a"]) == {"a": 1}


async def test_every_tenant_has_the_built_in_scenarios_home_first(
    documents: MemoryDocuments, clock: FixedClock
) -> None:
    found = await Scenarios(documents, clock).list("t")
    assert [s.id for s in found] == ["home", "related", "buy_again"]


async def test_an_unknown_scenario_is_refused_and_the_known_are_named(
    documents: MemoryDocuments, clock: FixedClock
) -> None:
    scenarios = Scenarios(documents, clock)
    await scenarios.put("t", OWN)
    with pytest.raises(
        UnknownScenario, match=r"'hom' is unknown to tenant 't'\. Known: home, related, buy_again, front"
    ):
        await scenarios.get("t", "hom")
    with pytest.raises(UnknownScenario, match="front"):
        await scenarios.get("u", "front")


@pytest.mark.parametrize("scenario", [OWN, *BUILT_IN], ids=lambda s: s.id)
def test_a_scenario_comes_back_from_its_document(scenario: Scenario) -> None:
    assert from_body(orjson.loads(orjson.dumps(scenario.public()))) == scenario


async def test_a_stored_scenario_takes_the_place_of_a_built_in_one(
    documents: MemoryDocuments, clock: FixedClock
) -> None:
    scenarios = Scenarios(documents, clock)
    mine = replace(HOME, title="Mine", diversity=0.3)
    await scenarios.put("t", mine)
    assert await scenarios.get("t", "home") == mine
    assert await scenarios.get("u", "home") == HOME
    assert (await scenarios.list("t"))[0].id == "home"


async def test_another_replica_sees_an_edit_within_a_second(documents: MemoryDocuments, clock: FixedClock) -> None:
    here, there = Scenarios(documents, clock), Scenarios(documents, clock)
    await there.get("t", "home")
    await here.put("t", OWN)
    assert await here.get("t", "front") == OWN
    clock.pass_s(2 * FRESH_S)
    assert await there.get("t", "front") == OWN
