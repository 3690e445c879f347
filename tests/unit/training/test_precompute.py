"""Lists made beforehand: for visitors as `home` would answer them, and popular ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_app.catalog.scenario import HOME, Scenarios
from ray_app.features.view import NAMES
from ray_app.models.listwise import Listwise
from ray_app.registry.watch import ITEM_CF, RANKER, Live
from ray_app.training.gate import Made, release
from ray_app.training.precompute import precompute
from ray_app.training.recallers import learn
from tests.unit.make import TENANT, shelf, visitor
from tests.unit.training.test_gate import ITEMS, USERS, World, columns, quiet, world

__all__ = ["world"]
pytestmark = pytest.mark.long


async def test_lists_are_made_for_visitors_and_per_scenario_and_category(world: World) -> None:
    await learn(world, TENANT, ITEM_CF, quiet)
    report = await precompute(world, TENANT, quiet)
    assert report.metrics["visitors"] == USERS
    lists = {d.id: d.body for d in await world.documents.find(TENANT, "lists", limit=1000)}
    assert {"popular:home:", "popular:related:", "popular:buy_again:"} <= set(lists)
    assert lists["popular:home:"]["made_at"] == world.clock.now()
    made = (await Live(world.registry).refresh(TENANT)).recallers["precomputed"]
    mine = made.recommend(replace(visitor(), name="u:3"), 20, np.ones(ITEMS, np.bool_), shelf([]).pin()).rows.tolist()
    assert len(mine) == len(set(mine)) > 5
    assert not {int(i[1:]) for i in columns()["item_id"][columns()["visitor"] == "u:3"]} & set(mine)


async def test_lists_of_visitors_are_ranked_by_the_kind_that_home_names(world: World) -> None:
    await learn(world, TENANT, ITEM_CF, quiet)
    flat, ones = np.zeros(len(NAMES), np.float32), np.ones(len(NAMES), np.float32)
    worst = Listwise("v", flat, ones, [(-np.ones((len(NAMES), 1), np.float32), np.zeros(1, np.float32))])
    about = {"kind": worst.kind, "features": list(NAMES)}

    async def made() -> list[int]:
        world.clock.pass_s(1)
        assert (await precompute(world, TENANT, quiet)).version
        lists = (await Live(world.registry).refresh(TENANT)).recallers["precomputed"]
        who = replace(visitor(), name="u:3")
        return lists.recommend(who, 20, np.ones(ITEMS, np.bool_), shelf([]).pin()).rows.tolist()

    by_popularity = await made()
    assert (await release(world, TENANT, Made(RANKER, worst.arrays(), about=about))).version
    assert await made() != by_popularity
    await Scenarios(world.documents, world.clock).put(TENANT, replace(HOME, ranker="popularity"))
    assert await made() == by_popularity
