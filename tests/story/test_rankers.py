"""Every kind of ranker, by what a scenario says alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from ray_app.models.ranker import KINDS
from ray_app.registry.watch import OF_KIND, RANKER
from tests.story.shop import Shop, history, within
from tests.story.test_learning import stored

pytestmark = pytest.mark.asyncio(loop_scope="session")
UNLIKELY = "attention"  # gives way to the network without it where it does not earn its place


async def put(shop: Shop, kind: str) -> Any:
    answer = await shop.http.put(f"/api/v1/scenarios/by-{kind}", json={"ranker": kind, "budget_s": 5.0})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ranked(shop: Shop, kind: str) -> tuple[str, list[str]]:
    """Which version, and why not another."""
    answer = (await shop.recommend("c1", scenario=f"by-{kind}")).body
    return answer["versions"][RANKER], [d["reason"] for d in answer["degraded"] if d["stage"] == "rank"]


@pytest.mark.long
async def test_a_scenario_is_ranked_by_the_kind_that_it_names(new_shop: Shop) -> None:
    shop = new_shop
    await shop.remember(history(shop.tenant, shop.app.clock.now() - 1000))
    await within(10, lambda: stored(shop, 960))
    for job in ("embed", "similarity", "train"):
        assert (await shop.job(job)).version
    for kind in KINDS:
        assert (await put(shop, kind))["ranker"] == kind
    best = (await shop.world.registry.live_ids(shop.tenant))[RANKER]
    await within(10, lambda: has(shop, "trees", best))
    assert (await ranked(shop, "trees"))[1] == [
        "no version of ranker 'trees' is live: the best one ranks. Run the job train"
    ]
    assert await ranked(shop, "popularity") == ("popularity", [])

    assert (await shop.job("train")).version
    live = await shop.world.registry.live_ids(shop.tenant)
    made = {kind: live[name] for kind, name in OF_KIND.items() if name in live}
    assert set(OF_KIND) - set(made) <= {UNLIKELY}
    for kind, id in made.items():
        assert (await shop.world.registry.get(shop.tenant, OF_KIND[kind], id)).about["kind"] == kind
        await within(10, partial(has, shop, kind, id))
        assert (await ranked(shop, kind))[1] == []


async def has(shop: Shop, kind: str, version: str) -> bool:
    return (await ranked(shop, kind))[0] == version
