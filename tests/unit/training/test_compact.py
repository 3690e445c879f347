"""Compaction: everything that is live on new rows, or everything as it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from ray_app.errors import Unavailable
from ray_app.events.schema import item_to_dict
from ray_app.registry.pointer import ROWS
from ray_app.registry.registry import Registry
from ray_app.registry.version import Status, Version, epoch_of
from ray_app.registry.watch import EMBEDDER, ITEM_CF, RANKER, VECTORS, Live, Models
from ray_app.stores.base import Document
from ray_app.training.compact import compact
from ray_app.training.embed import embed
from ray_app.training.evaluate import contenders
from ray_app.training.precompute import precompute
from ray_app.training.recallers import learn
from ray_app.training.report import Report
from ray_app.training.stores import catalogue
from tests.unit.make import TENANT, item
from tests.unit.training.test_gate import ITEMS, Told, World, columns, quiet, world

__all__ = ["world"]
pytestmark = pytest.mark.long
GONE = tuple(range(0, ITEMS, 3))
KEPT = [k for k in range(ITEMS) if k not in GONE]
TOMBSTONE = 1  # of an item that may come back


async def shop(world: World) -> dict[str, str]:
    """Models of a shop that lost a third of its items a while ago and one now; ids by name."""
    await delete(world, *GONE)
    world.clock.pass_s(1)
    await world.documents.drop_tombstones(world.clock.now())
    await delete(world, TOMBSTONE)
    for job in (embed(world, TENANT, quiet, size=8), learn(world, TENANT, ITEM_CF, quiet),
                precompute(world, TENANT, quiet)):  # fmt: skip
        world.clock.pass_s(1)
        assert (await job).version
    world.clock.pass_s(1)
    return await world.registry.live_ids(TENANT)


async def delete(world: World, *numbers: int) -> None:
    gone = [Document(f"i{k}", 2, {"id": f"i{k}", "row": k}, deleted=True) for k in numbers]
    await world.documents.upsert(TENANT, "items", gone)


async def write(world: World, id: str, number: int) -> None:
    one = item(id, 3, title="red tea")
    await world.documents.upsert(TENANT, "items", [Document(id, 3, {**item_to_dict(one), "row": number})])


class Meanwhile(Told):
    """Something happens once, when the history is read."""

    def __init__(self, then: Callable[[], Awaitable[object]], found: Mapping[str, Any] | None = None) -> None:
        super().__init__(columns() if found is None else found)
        self.then: Callable[[], Awaitable[object]] | None = then

    async def columns(self, sql: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        then, self.then = self.then, None
        if then is not None:
            await then()
        return await super().columns(sql, parameters)


async def models(world: World) -> Models:
    return await Live(world.registry).refresh(TENANT)


async def near(world: World) -> dict[str, list[str]]:
    """By item what is near to it, as the live neighbours and vectors say it."""
    found = await models(world)
    pinned = await catalogue(world, Live(world.registry), TENANT)
    assert found.base is not None
    arrays: Any = found.recallers[ITEM_CF].arrays()
    cf = {id: arrays["neighbours"][row][arrays["weights"][row] > 0] for id, row in pinned.rows.items()}
    base = pinned.vectors.whole()
    text = {id: np.argsort(-(base @ base[row]), kind="stable") for id, row in pinned.rows.items()}
    named = {id: [i for r in text[id] if (i := pinned.ids[r])][:5] for id in pinned.rows}
    return {id: [*(pinned.ids[r] for r in cf[id]), *named[id]] for id in pinned.rows}


async def test_everything_that_is_live_moves_and_says_the_same(world: World) -> None:
    before, said, told = await shop(world), await near(world), list[str]()
    report = await compact(world, TENANT, told.append)
    assert report.version, report.why
    assert (report.metrics["rows_before"], report.metrics["rows"]) == (ITEMS, len(KEPT))
    assert report.metrics["bytes"] < report.metrics["bytes_before"]
    assert [line.partition(":")[0] for line in told if "bytes become" in line] == [EMBEDDER, ITEM_CF, "precomputed"]
    after = await world.registry.live_ids(TENANT)
    assert after.keys() == {*before, ROWS}
    assert not {*after.values()} & {*before.values()}
    for name in before:
        version = await world.registry.get(TENANT, name, after[name])
        assert (epoch_of(version), version.status, version.covers) == (report.version, Status.LIVE, len(KEPT))
        assert version.about["parent"] == before[name]
    found = await models(world)
    assert found.base is not None
    assert found.base.shape == (len(KEPT), 8)
    assert await near(world) == said
    numbers, _ = await world.vectors.load(TENANT, (await world.registry.get(TENANT, EMBEDDER, after[EMBEDDER]))
                                          .about["space"])  # fmt: skip
    assert numbers.tolist() == [k for k in KEPT if k != TOMBSTONE]


async def as_before(world: World, before: dict[str, str]) -> None:
    assert await world.registry.live_ids(TENANT) == before
    assert await world.registry.epoch(TENANT) == "0"
    statuses = {v.id: v.status for v in await world.registry.list(TENANT)}
    assert {i for i, s in statuses.items() if s is Status.LIVE} == set(before.values())
    assert Status.STAGED not in statuses.values()
    assert (await models(world)).versions == before


async def test_a_model_that_would_be_worse_leaves_all_as_it_was(world: World) -> None:
    await shop(world)
    live: Any = await world.registry.live(TENANT, ITEM_CF)
    parts = await world.registry.load(TENANT, live)
    better = await world.registry.register(TENANT, ITEM_CF, parts, {"recall@20": 1.0}, {**live.about, "better": True})
    await world.registry.promote(TENANT, better)
    before = await world.registry.live_ids(TENANT)
    world.clock.pass_s(1)
    report = await compact(world, TENANT, quiet)
    assert report.version is None
    assert report.why.startswith("item_cf could not be made again, recall@20 is below 70% of the live version's")
    await as_before(world, before)


async def test_a_store_that_goes_away_leaves_all_as_it_was(world: World) -> None:
    async def away() -> None:
        raise Unavailable("analytics is away")

    before = await shop(world)
    world.olap = Meanwhile(away)
    with pytest.raises(Unavailable):
        await compact(world, TENANT, quiet)
    await as_before(world, before)


async def test_a_version_that_goes_live_meanwhile_is_not_lost(world: World) -> None:
    before = await shop(world)
    world.olap = Meanwhile(lambda: embed(world, TENANT, quiet, size=6))
    report = await compact(world, TENANT, quiet)
    assert (report.version, report.why) == (None, "another version of embedder went live meanwhile. Run it again")
    now = await world.registry.live_ids(TENANT)
    assert now[EMBEDDER] != before[EMBEDDER]
    await as_before(world, before | {EMBEDDER: now[EMBEDDER]})


class Slow(Registry):
    """Something happens once, when the first file of a switch is read once more."""

    then: Callable[[], Awaitable[object]] | None = None

    async def check(self, tenant: str, version: Version) -> None:
        then, self.then = self.then if version.name == ROWS else None, None
        if then is not None:
            await then()
        await super().check(tenant, version)


async def test_a_version_that_goes_live_while_the_files_are_read_once_more_is_not_lost(world: World) -> None:
    before = await shop(world)
    world.registry = slow = Slow(world.documents, world.blobs, world.clock)
    slow.then = lambda: embed(world, TENANT, quiet, size=6)
    report = await compact(world, TENANT, quiet)
    assert (report.version, report.why) == (None, "another version of embedder went live meanwhile. Run it again")
    now = await world.registry.live_ids(TENANT)
    assert now[EMBEDDER] != before[EMBEDDER]
    await as_before(world, before | {EMBEDDER: now[EMBEDDER]})


async def test_of_two_compactions_at_once_one_switches_and_the_other_leaves_nothing_behind(world: World) -> None:
    await shop(world)
    first: list[Report] = []

    async def another() -> None:
        world.clock.pass_s(1)
        first.append(await compact(world, TENANT, quiet))
        world.clock.pass_s(1)

    world.olap = Meanwhile(another)
    report = await compact(world, TENANT, quiet)
    assert report.version is None
    assert "rows went live meanwhile" in report.why
    assert await world.registry.epoch(TENANT) == first[0].version
    assert Status.STAGED not in {v.status for v in await world.registry.list(TENANT)}


async def test_an_item_that_was_on_its_way_when_the_rows_were_counted_is_not_lost(world: World) -> None:
    """Its number was given, and its document not yet written."""
    before = await shop(world)
    world.olap = Meanwhile(lambda: write(world, "slow", GONE[0]))
    report = await compact(world, TENANT, quiet)
    assert "1 items were written meanwhile under numbers given before" in report.why
    await as_before(world, before)
    world.clock.pass_s(1)
    assert (await compact(world, TENANT, quiet)).version
    assert (await catalogue(world, Live(world.registry), TENANT)).row_of("slow") == 0


async def test_items_that_come_or_come_back_meanwhile_have_rows_of_their_own(world: World) -> None:
    async def come() -> None:
        await write(world, f"i{TOMBSTONE}", TOMBSTONE)  # its tombstone has kept its number
        await write(world, f"i{GONE[1]}", await world.documents.next_number(TENANT, "rows"))

    await shop(world)
    world.olap = Meanwhile(come)
    report = await compact(world, TENANT, quiet)
    assert report.version, report.why
    pinned = await catalogue(world, Live(world.registry), TENANT)
    ids = [f"i{k}" for k in KEPT] + [f"i{GONE[1]}"]
    assert dict(pinned.rows) == {id: row for row, id in enumerate(ids)}
    assert [pinned.ids[r] for r in range(pinned.n)] == ids
    assert pinned.vectors.whole().any(axis=1).all()


async def test_a_job_over_which_a_compaction_switches_releases_nothing(world: World) -> None:
    before = await shop(world)
    world.olap = Meanwhile(lambda: compact(world, TENANT, quiet), {**columns(24)})
    report = await learn(world, TENANT, ITEM_CF, quiet)
    assert report.version is None
    assert "has the rows of epoch 0; a compaction has numbered them anew since" in report.why
    live = await world.registry.live_ids(TENANT)
    assert live.keys() == {*before, ROWS}
    made = await world.registry.list(TENANT, ITEM_CF)
    assert {v.id: v.status for v in made}[live[ITEM_CF]] is Status.LIVE
    assert sum(v.status is Status.RETIRED for v in made) == 2  # what was live, and what came too late


async def test_where_little_would_be_saved_nothing_is_done(world: World) -> None:
    before = await shop(world)
    report = await compact(world, TENANT, quiet, least=0.5)
    assert (report.version, report.why) == (None, "34% of the rows would go; at least 50% must")
    assert set(await world.registry.list(TENANT, ROWS)) == set()
    await as_before(world, before)
    whole = await compact(world, "nobody", quiet, least=0.0)
    assert whole.why == "0% of the rows would go; at least 0% must"


async def test_a_compacted_shop_learns_and_is_compacted_again(world: World) -> None:
    await shop(world)
    assert (await compact(world, TENANT, quiet)).version
    world.clock.pass_s(1)
    first = await models(world)
    report = await embed(world, TENANT, quiet, size=6)
    found = await models(world)
    assert found.versions == {**first.versions, EMBEDDER: report.version}
    assert found.base is not None
    assert found.base.shape == (len(KEPT), 6)
    await delete(world, *KEPT[::2])
    world.clock.pass_s(1)
    await world.documents.drop_tombstones(world.clock.now())
    again = await compact(world, TENANT, quiet)
    assert again.version, again.why
    assert (again.metrics["rows_before"], again.metrics["rows"]) == (len(KEPT), len(KEPT[1::2]))
    pinned = await catalogue(world, Live(world.registry), TENANT)
    assert dict(pinned.rows) == {f"i{k}": row for row, k in enumerate(KEPT[1::2])}
    version: Any = await world.registry.live(TENANT, EMBEDDER)
    base = (await world.registry.load(TENANT, version))[VECTORS]
    assert np.allclose(base, pinned.vectors.whole(), atol=1e-6)


async def test_a_shop_that_lost_everything_begins_again_with_its_embedder(world: World) -> None:
    assert (await embed(world, TENANT, quiet, size=8)).version
    await delete(world, *range(ITEMS))
    world.clock.pass_s(1)
    await world.documents.drop_tombstones(world.clock.now())
    report = await compact(world, TENANT, quiet)
    assert report.version, report.why
    await write(world, "new", await world.documents.next_number(TENANT, "rows"))
    pinned = await catalogue(world, Live(world.registry), TENANT)
    assert dict(pinned.rows) == {"new": 0}
    assert pinned.vectors.whole().any(axis=1).tolist() == [True]


async def test_an_embedder_that_was_gone_back_to_keeps_its_vectors(world: World) -> None:
    """The store has them no more: they stand in its own files."""
    await shop(world)
    assert (await embed(world, TENANT, quiet, size=6)).version
    world.clock.pass_s(1)
    await world.registry.rollback(TENANT, EMBEDDER)
    before = await catalogue(world, Live(world.registry), TENANT)
    world.clock.pass_s(1)
    report = await compact(world, TENANT, quiet)
    assert report.version, report.why
    pinned = await catalogue(world, Live(world.registry), TENANT)
    for id, row in pinned.rows.items():
        assert np.allclose(pinned.vectors.take(np.array([row])), before.vectors.take(np.array([before.rows[id]])))
    assert pinned.vectors.whole().shape == (len(KEPT), 8)


async def test_a_ranker_with_other_rows_is_not_judged(world: World) -> None:
    await shop(world)
    old = await world.registry.register(TENANT, RANKER, {"x": np.ones(1)}, about={"row_epoch": 0})
    report = await compact(world, TENANT, quiet)
    (_, odd) = await contenders(world.registry, TENANT, (old.id,))
    assert (odd.ranker, odd.why) == (None, f"its rows are those of epoch 0, {report.version} is live")
