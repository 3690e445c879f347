"""A shop that lost half of its items: rows numbered anew under answers that do not change, and items that come back."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from ray_app.catalog.shelf import Shelf
from ray_app.registry.pointer import ROWS
from ray_app.training.compact import compact
from tests.story.shop import Answer, Shop, history, within
from tests.story.test_learning import stored

pytestmark = pytest.mark.asyncio(loop_scope="session")
MOST_S = 120.0  # for a job and the replica behind it
ASKED = ("c1", "c2", "c5", "c8", "stranger")


async def answers(shop: Shop) -> list[Answer]:
    return [await shop.recommend(user, n=15) for user in ASKED]


async def without_tombstones(shop: Shop) -> None:
    """As after a week."""
    await shop.world.documents.drop_tombstones(shop.app.clock.now() + 1)


async def shelf(shop: Shop) -> Shelf:
    return await shop.app.shelves.of(shop.tenant)


async def delete(shop: Shop, *ids: str) -> None:
    for id in ids:
        answer = await shop.http.delete(f"/api/v1/items/{id}", params={"wait": True})
        assert answer.status_code == 200, answer.text


async def settled(shop: Shop) -> bool:
    """The vectors are on the shelf, and the sums of the history on the board."""
    stranger = (await shop.recommend("stranger", n=15)).body["items"]
    return (await shelf(shop)).space != "" and any("hot" in i["channels"] for i in stranger)


async def moved(shop: Shop, rows: str) -> bool:
    return (await shelf(shop)).epoch.id == rows


@pytest.mark.long
async def test_answers_stay_as_they_are_while_the_rows_are_numbered_anew(new_shop: Shop) -> None:
    shop, told = new_shop, list[str]()
    await shop.write([{"item_id": f"old-{k}", "title": f"old {k}"} for k in range(60)])
    await shop.write([{"item_id": f"late-{k}", "title": f"card stamp {k}", "category": "paper"} for k in range(5)])
    await shop.remember(history(shop.tenant, shop.app.clock.now() - 3_600_000))
    await within(10, lambda: stored(shop, 960))
    await delete(shop, *(f"tea-{k}" for k in range(10)), *(f"old-{k}" for k in range(60)))
    await without_tombstones(shop)
    await delete(shop, "bath-9")  # its tombstone stays
    versions = {r.name: r.version or "" for r in [await shop.job("embed"), await shop.job("similarity")]}
    await within(10, lambda: shop.serves(versions))
    await within(10, lambda: settled(shop))
    before = [a.ids for a in await answers(shop)]

    job = asyncio.create_task(compact(shop.world, shop.tenant, told.append))
    seen: list[Answer] = []
    async with asyncio.timeout(MOST_S):
        while not job.done() or not await moved(shop, job.result().version or ""):
            seen += await answers(shop)
    report = job.result()
    assert report.version, report.why
    assert (report.metrics["rows_before"], report.metrics["rows"]) == (125, 55)
    assert report.metrics["bytes_before"] - report.metrics["bytes"] >= 70 * 384 * 4
    assert "125 rows, of which 55 have an item: 56% would go" in told
    seen += await answers(shop)
    assert [a.ids for a in seen] == before * (len(seen) // len(ASKED))
    assert all(not a.body.get("degraded") for a in seen)

    live = await shop.world.registry.live_ids(shop.tenant)
    assert set(live) == {*versions, ROWS}
    assert {frozenset(a.body["versions"].items()) for a in seen} == {
        frozenset({"ranker": "popularity", **found}.items()) for found in (versions, live)
    }
    assert (await shelf(shop)).pin().n == 55
    again = await compact(shop.world, shop.tenant, told.append)
    assert (again.version, again.why) == (None, "0% of the rows would go; at least 25% must")


@pytest.mark.long
async def test_items_come_and_come_back_while_the_rows_are_numbered_anew(new_shop: Shop) -> None:
    shop, told = new_shop, list[str]()
    answer = await shop.http.put("/api/v1/scenarios/plain", json={"ranker": "logistic"})
    assert answer.status_code == 200, answer.text
    await shop.remember(history(shop.tenant, shop.app.clock.now() - 3_600_000))
    await within(10, lambda: stored(shop, 960))
    await delete(shop, *(f"tea-{k}" for k in range(10)), "bath-8")
    await without_tombstones(shop)
    await delete(shop, "bath-9")
    for report in await shop.learn():
        assert report.version, report.why
    gone = {*(f"tea-{k}" for k in range(10)), "bath-8", "bath-9"}

    job = asyncio.create_task(compact(shop.world, shop.tenant, told.append, 0.1))
    written, turn = set[str](), count()
    async with asyncio.timeout(MOST_S):
        while not job.done() or not await moved(shop, job.result().version or ""):
            k = next(turn)
            id = f"new-{k % 20}"  # then they are written again
            back = [one(i) for i in ("bath-9", "tea-3") if written]
            gone -= {i["item_id"] for i in back}
            await shop.write([{"item_id": id, "title": f"soap foam {k}", "category": "bath"}, *back])
            written.add(id)
            for answer in [await shop.recommend(u, n=40, filters=BATH) for u in ASKED]:
                assert not gone & set(answer.ids)
                assert set(answer.shelves) <= {"bath", "new"}
                assert written <= set(answer.ids)
    assert job.result().version, job.result().why
    for id in ("bath-9", "tea-3", "bath-8"):  # a tombstone, no document, and one that nobody wrote since
        await shop.write([one(id)])
        found = await shop.recommend("c1", n=1, filters=[{"field": "item_id", "op": "eq", "value": id}])
        assert found.ids == [id]
    rows = (await shelf(shop)).pin()
    assert sorted(i for i in rows.ids[: rows.n] if i) == sorted({*rows.rows})
    live = await shop.world.registry.live_ids(shop.tenant)
    assert {"embedder", "item_cf", "ranker", "ranker.logistic", ROWS} == set(live)
    assert sum(line.startswith("popularity: ") for line in told) == 1  # rankers are fitted once for all names
    assert live.items() <= found.body["versions"].items()


BATH: list[dict[str, Any]] = [{"field": "category", "op": "eq", "value": "bath"}]


def one(id: str) -> dict[str, Any]:
    return {"item_id": id, "title": f"again {id}", "category": id.partition("-")[0]}
