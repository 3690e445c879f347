"""An operator's way with versions: a shadow beside the live ranker on real answers, then live, then back."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import httpx
import numpy as np
import pytest

from ray_app.features.view import NAMES
from ray_app.models.base import Scene
from ray_app.models.listwise import Listwise
from ray_app.recommend.graph import RankAsk
from ray_app.registry.watch import RANKER, SHADOW
from ray_app.wiring import open_stage
from tests.story.conftest import House
from tests.story.shop import Answer, Shop, within
from tests.story.test_operators import operator
from tests.unit.make import visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["operator"]


async def reversed_ranker(shop: Shop) -> str:
    """A staged version that puts last what the channels found first."""
    ranker = Listwise("opposite", np.zeros(len(NAMES), np.float32), np.ones(len(NAMES), np.float32), [
        (-np.float32([[name == "merged"] for name in NAMES]), np.zeros(1, np.float32))
    ])  # fmt: skip
    about = {"kind": ranker.kind, "features": list(NAMES)}
    return (await shop.world.registry.register(shop.tenant, RANKER, ranker.arrays(), {"ndcg@20": 0.0}, about)).id


async def serving(shop: Shop, wanted: dict[str, str]) -> bool:
    versions = (await shop.recommend("c1")).body["versions"]
    return {k: versions.get(k) for k in (RANKER, SHADOW)} == {k: wanted.get(k) for k in (RANKER, SHADOW)}


async def compared(shop: Shop, operator: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await operator.get("/api/v1/models/shadow", params={"tenant": shop.tenant})
    return [dict(line) for line in answer.json()["shadows"]]


def disputed(answer: Answer) -> tuple[str, str]:
    """Two items of the answer: the live ranker prefers the first, the reversed one the second."""
    by_id = {c["item_id"]: (c["scores"]["score"], c["merged"]) for c in answer.body["debug"]["candidates"]}
    pairs = permutations([i for i in answer.ids if i in by_id], 2)
    return next((a, b) for a, b in pairs if by_id[a][0] > by_id[b][0] and by_id[a][1] > by_id[b][1])


@pytest.mark.long
async def test_a_shadow_is_compared_on_real_answers_then_goes_live_and_back(
    open_shop: House, operator: httpx.AsyncClient, shop: Shop
) -> None:
    live = (await shop.world.registry.live_ids(shop.tenant))[RANKER]
    other = await reversed_ranker(shop)
    path, ask = f"/api/v1/models/{RANKER}/{other}", {"tenant": shop.tenant}
    try:
        assert (await operator.put(path, json={**ask, "status": "shadow"})).json()["status"] == "shadow"
        await within(10, lambda: serving(shop, {RANKER: live, SHADOW: other}))
        for k in range(6):  # each looks at two, and clicks the one that the live ranker prefers
            answer = await shop.recommend(f"c{10 + k}", n=10, debug=True)
            about = {"request_id": answer.body["request_id"], "scenario": "home"}
            two = disputed(answer)
            seen = [shop.event(f"c{10 + k}", i, "impression", **about) for i in two]
            await shop.behave(*seen, shop.event(f"c{10 + k}", two[0], "click", **about))
        await shop.app.slates.flush()

        async def all_counted() -> bool:
            found = await compared(shop, operator)
            return bool(found and found[0]["clicks"] == 6 and found[0]["items"] == 12)

        await within(20, all_counted)
        (line,) = await compared(shop, operator)
        assert (line["live"], line["shadow"]) == (live, other)
        assert line["answers"] >= 6
        assert line["live_auc"] > 0.5 > line["shadow_auc"]
        assert line["same_best"] < 0.5
        assert (await operator.put(path, json={**ask, "status": "live"})).json()["status"] == "live"
        await within(10, lambda: serving(shop, {RANKER: other}))
    finally:
        back = await operator.post(f"/api/v1/models/{RANKER}/rollback", json=ask)
    assert (back.json()["id"], back.json()["status"]) == (live, "live")
    await within(10, lambda: serving(shop, {RANKER: live}))


@pytest.mark.long
async def test_the_stages_of_a_graph_load_what_they_work_with(shop: Shop) -> None:
    live, registry = await shop.world.registry.live_ids(shop.tenant), shop.world.registry
    shadow = await registry.get(shop.tenant, RANKER, await reversed_ranker(shop))
    await registry.shadow(shop.tenant, shadow)
    scene = Scene(np.zeros((2, len(NAMES)), np.float32), np.arange(2, dtype=np.int32), visitor())
    server, close_server = await open_stage(shop.world.settings, models_alone=True)
    station, close_station = await open_stage(shop.world.settings)
    try:
        assert server.live.of(shop.tenant).versions == {RANKER: live[RANKER]}  # before anybody has asked
        (answer,) = await server.rank([RankAsk(shop.tenant, scene, "click")])
        assert answer.version == live[RANKER]
        assert server.live.of(shop.tenant).versions == {RANKER: live[RANKER]}
        others = {name: id for name, id in live.items() if name != RANKER}
        assert station.models(shop.tenant).versions == others
    finally:
        await close_server()
        await close_station()
        await registry.retire(shop.tenant, shadow)


async def test_an_operator_sees_lineage_and_whether_files_are_whole(shop: Shop, operator: httpx.AsyncClient) -> None:
    ask = {"tenant": shop.tenant}
    listed = (await operator.get("/api/v1/models", params=ask)).json()["versions"]
    assert {v["name"] for v in listed} >= {"embedder", "item_cf", RANKER}
    one = next(v for v in listed if v["name"] == RANKER and v["status"] == "live")
    shown = (await operator.get(f"/api/v1/models/{RANKER}/{one['id']}", params=ask)).json()
    assert shown["broken"] == ""
    registered = shop.world.blobs.names(f"{shop.tenant}/models/{RANKER}/{one['id']}")
    assert sorted(shown["files"]) == registered != []  # which ranker won, and so of which kind they are, is its affair
    assert {"code", "parent", "feed", "row_epoch"} <= set(shown["about"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "", None, 400, "INVALID_FIELD"),
        ("PUT", "/ranker/none", {"tenant": "demo", "status": "live"}, 404, "NOT_FOUND"),
        ("POST", "/ranker/rollback", {"tenant": "nobody"}, 404, "NOT_FOUND"),
        ("GET", "/shadow?tenant=demo&days=0", None, 400, "INVALID_FIELD"),
    ],
)
async def test_what_is_not_there_is_refused(
    operator: httpx.AsyncClient, method: str, path: str, body: Any, status: int, reason: str
) -> None:
    answer = await operator.request(method, f"/api/v1/models{path}", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text


async def test_only_a_ranker_is_shadowed(shop: Shop, operator: httpx.AsyncClient) -> None:
    id = (await shop.world.registry.live_ids(shop.tenant))["item_cf"]
    ask = {"tenant": shop.tenant, "status": "shadow"}
    answer = await operator.put(f"/api/v1/models/item_cf/{id}", json=ask)
    assert "no other model scores the items of an answer" in answer.json()["message"]
