"""Rows numbered anew: every name moves by one write, and what has other rows never serves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app.catalog.rows import FIRST
from ray_app.clock import FixedClock
from ray_app.errors import InvalidField, OtherEpoch, Unavailable
from ray_app.registry.pointer import ROWS, Pointer, in_force
from ray_app.registry.registry import VERSIONS, Registry
from ray_app.registry.version import Status, Version, to_body
from ray_app.registry.watch import ITEM_CF, Live
from ray_app.stores.base import Document, Outcome
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments

COVISIT = "covisit"
DENSE = np.array([-1, 0, -1, 1], np.int32)


class Dies(MemoryDocuments):
    """Away from the write of this number on."""

    writes_left = 10**6

    async def upsert(self, tenant: str, kind: str, documents: Sequence[Document]) -> list[Outcome]:
        if self.writes_left <= 0:
            raise Unavailable("documents are away")
        self.writes_left -= 1
        return await super().upsert(tenant, kind, documents)


class House:
    """A registry whose clock moves with every version."""

    def __init__(self, clock: FixedClock, folder: Path) -> None:
        self.clock, self.documents = clock, Dies(clock)
        self.registry = Registry(self.documents, Blobs(folder), clock)
        self._numbers = count(1)

    async def made(self, name: str, epoch: str = FIRST.id) -> Version:
        self.clock.pass_s(1)
        n = next(self._numbers)
        arrays = {"neighbours": np.array([[1], [0]], np.int32), "weights": np.full((2, 1), n, np.float32)}
        return await self.registry.register("t", name, arrays, about={"row_epoch": epoch})

    async def live(self, name: str, epoch: str = FIRST.id) -> Version:
        return await self.registry.promote("t", await self.made(name, epoch))

    async def rows(self, epoch: str = FIRST.id) -> Version:
        self.clock.pass_s(1)
        return await self.registry.register("t", ROWS, {ROWS: DENSE}, about={"row_epoch": epoch})

    async def switched(self, *names: str) -> tuple[Version, dict[str, str]]:
        rows = await self.rows()
        rebuilt = [await self.made(n, rows.id) for n in names]
        assert not await self.registry.switch("t", rows, rebuilt, await self.registry.live_ids("t"))
        return rows, {v.name: v.id for v in (rows, *rebuilt)}

    async def statuses(self) -> dict[str, Status]:
        return {v.id: v.status for v in await self.registry.list("t")}


@pytest.fixture
def house(clock: FixedClock, tmp_path: Path) -> House:
    return House(clock, tmp_path)


def test_pointers_of_another_epoch_say_no_more_what_is_live() -> None:
    rows = Pointer("r1", rebuilt={"a": "a1", "c": "c1"})
    found = {ROWS: rows, "a": Pointer("a0", ("a00",), "s0"), "b": Pointer("b0"), "d": Pointer("d1", epoch="r1")}
    said = in_force(found)
    assert {n: (p.live, p.past, p.shadow) for n, p in said.items()} == {
        ROWS: ("r1", (), ""), "a": ("a1", ("a0", "a00"), ""), "b": ("", ("b0",), ""), "c": ("c1", (), ""),
        "d": ("d1", (), ""),
    }  # fmt: skip
    assert {p.epoch for p in said.values()} == {"r1"}
    assert in_force({"a": Pointer("a0")}) == {"a": Pointer("a0")}


async def test_a_switch_moves_every_name_and_what_was_live_retires(house: House) -> None:
    before = [await house.live(ITEM_CF), await house.live(COVISIT)]
    shadow = await house.registry.shadow("t", await house.made(COVISIT))
    rows, then = await house.switched(ITEM_CF, COVISIT)
    assert await house.registry.live_ids("t") == then
    assert await house.registry.epoch("t") == rows.id
    statuses = await house.statuses()
    assert {statuses[id] for id in then.values()} == {Status.LIVE}
    assert {statuses[v.id] for v in (*before, shadow)} == {Status.RETIRED}
    kept = await house.registry.get("t", ROWS, rows.id)
    assert kept.about["rebuilt"] == {n: id for n, id in then.items() if n != ROWS}
    next_one = await house.live(ITEM_CF, rows.id)
    assert await house.registry.live_ids("t") == then | {ITEM_CF: next_one.id}
    assert (await house.registry.rollback("t", ITEM_CF)).id == then[ITEM_CF]


@pytest.mark.parametrize("writes", range(8))
async def test_wherever_a_switch_is_cut_all_is_as_before_or_all_has_moved(house: House, writes: int) -> None:
    before = {v.name: v.id for v in [await house.live(ITEM_CF), await house.live(COVISIT)]}
    rows = await house.rows()
    rebuilt = [await house.made(n, rows.id) for n in (ITEM_CF, COVISIT)]
    house.documents.writes_left = writes
    cut = False
    try:
        await house.registry.switch("t", rows, rebuilt, before)
    except Unavailable:
        cut = True
    assert cut is (writes < 6)
    then = {v.name: v.id for v in (rows, *rebuilt)}
    assert await house.registry.live_ids("t") == (then if writes else before)
    house.documents.writes_left = 10**6
    watch = Live(house.registry)
    assert (await watch.refresh("t")).versions == (then if writes else before)


async def test_what_has_other_rows_is_never_promoted_shadowed_or_gone_back_to(house: House) -> None:
    old = await house.live(ITEM_CF)
    late = await house.made(ITEM_CF)
    rows, then = await house.switched(ITEM_CF)
    why = f"has the rows of epoch 0; a compaction .* epoch {rows.id} can serve. Make another: run the job that makes"
    for move in (house.registry.promote("t", late), house.registry.shadow("t", late),
                 house.registry.rollback("t", ITEM_CF), house.registry.rollback("t", ITEM_CF, old.id)):  # fmt: skip
        with pytest.raises(OtherEpoch, match=why):
            await move
    assert await house.registry.live_ids("t") == then


async def test_rows_are_moved_by_nobody_but_a_compaction(house: House) -> None:
    first, _ = await house.switched()
    second, _ = await house.switched()
    for move in (house.registry.promote("t", await house.rows()), house.registry.rollback("t", ROWS),
                 house.registry.retire("t", second)):  # fmt: skip
        with pytest.raises(InvalidField, match="name is 'rows'; allowed: any name but rows"):
            await move
    assert await house.registry.live_ids("t") == {ROWS: second.id}
    assert (await house.registry.get("t", ROWS, first.id)).status is Status.RETIRED


async def test_a_pointer_that_was_written_by_a_release_before_epochs_is_of_the_first(house: House) -> None:
    version = await house.live(ITEM_CF)
    body = {"id": version.id, "past": [], "shadow": ""}
    await house.documents.upsert("t", "live", [Document(ITEM_CF, house.clock.now(), body)])
    old: dict[str, Any] = {**to_body(version), "about": {"row_epoch": 0}}
    await house.documents.upsert("t", VERSIONS, [Document(f"{ITEM_CF}/{version.id}", house.clock.now(), old)])
    assert (await Live(house.registry).refresh("t")).versions == {ITEM_CF: version.id}


async def test_a_replica_loads_all_of_an_epoch_and_keeps_the_one_before(house: House) -> None:
    old = await house.live(ITEM_CF)
    watch = Live(house.registry)
    before = await watch.refresh("t")
    rows, then = await house.switched(ITEM_CF, COVISIT)
    now = await watch.refresh("t")
    assert (now.versions, now.epoch.id, now.epoch.dense.tolist()) == (then, rows.id, DENSE.tolist())
    assert now.at(rows.id) is now
    assert before.versions == {ITEM_CF: old.id}
    held = now.at(FIRST.id)
    assert held is not None
    assert held.recallers is before.recallers
    assert now.at("another") is None
    watch.moved_to("t", FIRST.id)  # the shelf has not moved
    assert watch.of("t") is now
    watch.moved_to("t", rows.id)
    assert (watch.of("t").at(FIRST.id), watch.of("t").versions) == (None, then)
    again, _ = await house.switched(ITEM_CF)
    latest = await watch.refresh("t")
    assert latest.versions.keys() == {ROWS, ITEM_CF}
    assert (latest.at(again.id), latest.at(FIRST.id)) == (latest, None)


async def test_rows_that_cannot_be_read_leave_a_replica_with_all_that_it_had(house: House, tmp_path: Path) -> None:
    old = await house.live(ITEM_CF)
    watch = Live(house.registry)
    await watch.refresh("t")
    rows, _ = await house.switched(ITEM_CF)
    (tmp_path / f"t/models/rows/{rows.id}/rows.npy").write_bytes(b"cut")
    for _ in range(2):
        found = await watch.refresh("t")
        assert (found.versions, found.epoch.id) == ({ITEM_CF: old.id}, FIRST.id)
