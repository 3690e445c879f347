"""Versions: the table of moves, checked files, what is live, and what never becomes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app.clock import FixedClock
from ray_app.errors import BrokenArtifact, InvalidField, NotFound, Unavailable
from ray_app.features.view import NAMES
from ray_app.models.itemcf import ItemCF
from ray_app.models.listwise import Listwise
from ray_app.models.text import TextEmbedder
from ray_app.registry.code import code_version
from ray_app.registry.pointer import Pointer
from ray_app.registry.registry import LIVE, Registry
from ray_app.registry.version import MOVES, Status, Version, from_body, move, to_body
from ray_app.registry.watch import EMBEDDER, ITEM_CF, POLL_S, RANKER, SHADOW, Live, Models
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments

ARRAYS = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.zeros((0, 4), np.float32), "c": np.array(7)}
ALLOWED = [(a, b) for a in Status for b in Status if b in MOVES[a]]
REFUSED = [(a, b) for a in Status for b in Status if b not in MOVES[a]]


@pytest.fixture
def registry(documents: MemoryDocuments, clock: FixedClock, tmp_path: Path) -> Registry:
    return Registry(documents, Blobs(tmp_path), clock)


async def live(registry: Registry, name: str, arrays: Any = ARRAYS, **about: Any) -> Version:
    return await registry.promote("t", await registry.register("t", name, arrays, about=about))


async def status(registry: Registry, version: Version) -> Status:
    return (await registry.get("t", version.name, version.id)).status


def test_the_table_of_moves() -> None:
    assert {(a.value, b.value) for a, b in ALLOWED} == {
        ("staged", "shadow"), ("staged", "live"), ("staged", "retired"), ("shadow", "live"), ("shadow", "retired"),
        ("live", "retired"), ("retired", "live"),
    }  # fmt: skip


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_a_move_of_the_table_is_made(before: Status, after: Status) -> None:
    assert move(Version("m", "1", 0, {}, before), after).status is after


@pytest.mark.parametrize(("before", "after"), REFUSED)
def test_any_other_move_is_refused_and_names_both_states(before: Status, after: Status) -> None:
    with pytest.raises(InvalidField, match=f"status is '{after.value}'; allowed: from {before.value}:"):
        move(Version("m", "1", 0, {}, before), after)


def test_a_version_comes_back_from_its_document() -> None:
    version = Version("m", "1", 5, {"a.npy": "00"}, Status.SHADOW, {"ndcg@20": 0.5}, {"kind": "text"}, 7)
    assert from_body(to_body(version)) == version


async def test_arrays_come_back_as_they_were_and_are_mapped_from_disk(registry: Registry) -> None:
    version = await registry.register("t", "m", ARRAYS, {"x": 1.0}, {"k": "v"}, 9)
    found = await registry.load("t", await registry.get("t", "m", version.id))
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    assert not found["a"].flags.writeable
    assert (version.status, version.metrics, version.about, version.covers) == (
        Status.STAGED,
        {"x": 1.0},
        {"code": code_version(), "parent": "", "k": "v"},
        9,
    )


async def test_nothing_is_pickled(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        await registry.register("t", "m", {"a": np.array([{}], object)})
    assert await registry.list("t", "m") == []


async def test_promoting_retires_the_one_before_and_a_rollback_goes_back(registry: Registry, clock: FixedClock) -> None:
    first = await live(registry, "m")
    clock.pass_s(1)
    second = await live(registry, "m")
    assert [await status(registry, v) for v in (first, second)] == [Status.RETIRED, Status.LIVE]
    clock.pass_s(1)
    await registry.promote("t", await registry.get("t", "m", first.id))
    assert [await status(registry, v) for v in (first, second)] == [Status.LIVE, Status.RETIRED]
    assert (await registry.live_ids("t")) == {"m": first.id}


async def test_to_promote_the_live_one_changes_nothing(registry: Registry) -> None:
    version = await live(registry, "m")
    assert await registry.promote("t", version) == version
    assert await status(registry, version) is Status.LIVE


@pytest.mark.parametrize("cut_off_before", ["the pointer", "the one before retires"])
async def test_a_promotion_that_was_cut_off_can_be_made_again(
    registry: Registry, documents: MemoryDocuments, clock: FixedClock, cut_off_before: str
) -> None:
    first = await live(registry, "m")
    clock.pass_s(1)
    second = await registry.register("t", "m", {"a": np.ones(2)})
    raised = move(second, Status.LIVE)
    await documents.upsert("t", "versions", [Document(f"m/{second.id}", clock.now(), to_body(raised))])
    if cut_off_before == "the one before retires":
        await documents.upsert("t", LIVE, [Document("m", clock.now(), {"id": second.id})])
    wanted = second if cut_off_before == "the pointer" else first
    await registry.promote("t", await registry.get("t", "m", wanted.id))
    assert (await registry.live_ids("t")) == {"m": wanted.id}
    other = first if wanted is second else second
    assert await status(registry, other) is Status.RETIRED


async def test_a_rollback_goes_back_as_far_as_there_was_something_live(registry: Registry, clock: FixedClock) -> None:
    made = []
    for k in range(3):
        made.append(await live(registry, "m", {"a": np.full(2, k)}))
        clock.pass_s(1)
    assert (await registry.rollback("t", "m")).id == made[1].id
    assert [await status(registry, v) for v in made] == [Status.RETIRED, Status.LIVE, Status.RETIRED]
    clock.pass_s(1)
    assert (await registry.rollback("t", "m")).id == made[0].id
    with pytest.raises(NotFound, match=r"cannot go back to 'what was before'\. Live before: none"):
        await registry.rollback("t", "m")
    assert (await registry.live_ids("t")) == {"m": made[0].id}


async def test_a_rollback_may_name_where_to(registry: Registry, clock: FixedClock) -> None:
    made = []
    for k in range(3):
        made.append(await live(registry, "m", {"a": np.full(2, k)}))
        clock.pass_s(1)
    with pytest.raises(NotFound, match=rf"cannot go back to 'x'\. Live before: {made[1].id}, {made[0].id}"):
        await registry.rollback("t", "m", "x")
    assert (await registry.rollback("t", "m", made[0].id)).id == made[0].id


async def test_there_is_one_shadow_and_it_may_go_live(registry: Registry, clock: FixedClock) -> None:
    first = await live(registry, "m")
    made = []
    for k in range(2):
        clock.pass_s(1)
        made.append(await registry.shadow("t", await registry.register("t", "m", {"a": np.full(2, k)})))
    assert [await status(registry, v) for v in (first, *made)] == [Status.LIVE, Status.RETIRED, Status.SHADOW]
    assert await registry.pointer("t", "m") == Pointer(first.id, (), made[1].id)
    clock.pass_s(1)
    await registry.promote("t", made[1])
    assert await registry.pointer("t", "m") == Pointer(made[1].id, (first.id,), "")
    with pytest.raises(InvalidField, match="status is 'shadow'; allowed: for the live version: retired"):
        await registry.shadow("t", await registry.get("t", "m", made[1].id))


async def test_the_live_one_may_retire_without_another_and_come_back(registry: Registry, clock: FixedClock) -> None:
    version = await live(registry, "m")
    clock.pass_s(1)
    assert (await registry.retire("t", version)).status is Status.RETIRED
    assert await registry.live_ids("t") == {}
    clock.pass_s(1)
    assert (await registry.rollback("t", "m")).id == version.id


async def test_a_version_names_its_parent_and_its_code(registry: Registry, clock: FixedClock) -> None:
    first = await live(registry, "m")
    clock.pass_s(1)
    second = await registry.register("t", "m", {"a": np.ones(2)}, about={"dataset": "d/1"})
    assert second.about == {"code": code_version(), "parent": first.id, "dataset": "d/1"}


async def test_other_formats_come_back_as_checked_files_and_the_rest_is_refused(registry: Registry) -> None:
    version = await registry.register("t", "m", {"about.json": b"{}", "tree.txt": b"tree", "a": np.arange(3)})
    found = await registry.load("t", version)
    assert {k: found[k].read_bytes() for k in ("about.json", "tree.txt")} == {"about.json": b"{}", "tree.txt": b"tree"}
    assert found["a"].tolist() == [0, 1, 2]
    for name in ("model.pkl", "model", "model.pt", "model.joblib"):
        with pytest.raises(InvalidField, match=r"allowed: arrays, or bytes under a name that ends in \.json"):
            await registry.register("t", "m", {name: b"x"})


async def test_names_and_tenants_are_apart(registry: Registry) -> None:
    version = await live(registry, "m")
    await live(registry, "n")
    assert [v.id for v in await registry.list("t", "m")] == [version.id]
    assert await registry.live("u", "m") is None
    assert await registry.live("t", "o") is None
    with pytest.raises(NotFound, match="has no version"):
        await registry.get("u", "m", version.id)


def spoil(folder: Path, how: str) -> None:
    (file,) = folder.rglob("a.npy")
    if how == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["changed", "cut", "empty", "missing"])
async def test_a_file_that_is_not_what_was_registered_is_a_broken_artifact(
    registry: Registry, tmp_path: Path, how: str
) -> None:
    version = await registry.register("t", "m", ARRAYS)
    spoil(tmp_path, how)
    for use in (registry.load, registry.promote, registry.shadow):
        with pytest.raises(BrokenArtifact, match=rf"m {version.id}: a\.npy"):
            await use("t", version)
    assert await registry.pointers("t") == {}
    assert await status(registry, version) is Status.STAGED


@pytest.mark.parametrize("how", ["changed", "cut", "empty", "missing"])
async def test_a_rollback_to_what_is_broken_leaves_what_is_live(
    registry: Registry, tmp_path: Path, clock: FixedClock, how: str
) -> None:
    first = await live(registry, "m")
    clock.pass_s(1)
    second = await live(registry, "m", {"b": np.ones(2)})
    spoil(tmp_path, how)
    with pytest.raises(BrokenArtifact, match=rf"m {first.id}: a\.npy"):
        await registry.rollback("t", "m")
    assert await registry.live_ids("t") == {"m": second.id}


CF = ItemCF(np.array([[1], [0]], np.int32), np.ones((2, 1), np.float32))
RANK = Listwise(
    "v", np.zeros(len(NAMES), np.float32), np.ones(len(NAMES), np.float32),
    [(np.ones((len(NAMES), 1), np.float32), np.zeros(1, np.float32))],
)  # fmt: skip


async def test_what_was_promoted_is_loaded_and_the_rest_stays(registry: Registry) -> None:
    watch = Live(registry)
    assert watch.of("t") == await watch.refresh("t")
    cf = await live(registry, ITEM_CF, CF.arrays())
    text = TextEmbedder.fit(["a b", "a c", "b c"], 2)
    embedder = await live(registry, EMBEDDER, text.arrays(), kind="text")
    ranker = await live(registry, RANKER, RANK.arrays(), kind="listwise", features=list(NAMES))
    await live(registry, "unknown to serving")
    models = await watch.refresh("t")
    assert watch.of("t") is models
    assert models.versions == {ITEM_CF: cf.id, EMBEDDER: embedder.id, RANKER: ranker.id}
    assert models.embedder is not None
    assert models.embedder.version == text.version
    assert models.ranker is not None
    assert models.ranker.version == ranker.id
    again = await watch.refresh("t")
    assert again is models
    assert watch.tenants() == ["t"]


async def test_a_shadow_is_loaded_beside_and_goes_when_it_is_retired(registry: Registry, clock: FixedClock) -> None:
    watch, without = Live(registry, (RANKER, SHADOW)), Live(registry)
    ranker = await live(registry, RANKER, RANK.arrays(), kind="listwise", features=list(NAMES))
    clock.pass_s(1)
    made = await registry.register("t", RANKER, {**RANK.arrays(), "bias0": np.ones(1, np.float32)}, about=ranker.about)
    await registry.shadow("t", made)
    both = await watch.refresh("t")
    assert both.versions == {RANKER: ranker.id, SHADOW: made.id}
    assert (both.ranker.version, both.shadow.version) == (ranker.id, made.id)  # type: ignore[union-attr]
    assert (await without.refresh("t")).versions == {RANKER: ranker.id}
    named = both.ranked_by("popularity")
    assert named is not None
    assert (named.versions, named.shadow) == ({}, None)
    clock.pass_s(1)
    await registry.retire("t", made)
    after = await watch.refresh("t")
    assert (after.versions, after.shadow) == ({RANKER: ranker.id}, None)


async def test_what_retires_without_another_leaves_the_replicas(registry: Registry, clock: FixedClock) -> None:
    watch, made = Live(registry), []
    for name, (arrays, about) in GOOD.items():
        made.append(await live(registry, name, arrays, **about))
    assert set((await watch.refresh("t")).versions) == set(GOOD)
    clock.pass_s(1)
    for version in made:
        await registry.retire("t", version)
    assert await watch.refresh("t") == Models()


BROKEN: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "arrays of another kind": (ITEM_CF, {"x": np.ones(2)}, {}),
    "other features": (RANKER, RANK.arrays(), {"kind": "listwise", "features": ["price"]}),
    "no features": (RANKER, RANK.arrays(), {"kind": "listwise"}),
    "no kind": (RANKER, RANK.arrays(), {"features": list(NAMES)}),
    "an unknown kind": (RANKER, RANK.arrays(), {"kind": "oracle", "features": list(NAMES)}),
    "values that are no numbers": (RANKER, {**RANK.arrays(), "bias0": np.full(1, np.nan, np.float32)},
                                   {"kind": "listwise", "features": list(NAMES)}),
    "half a ranker": (RANKER, {"centre": np.ones(2), "spread": np.ones(2), "weight0": np.ones(2), "x": np.ones(1)},
                      {"kind": "listwise", "features": list(NAMES)}),
    "a ranker for other shapes": (RANKER, {**RANK.arrays(), "weight0": np.ones((3, 1), np.float32)},
                                  {"kind": "listwise", "features": list(NAMES)}),
    "a sentence encoder that is not on this node": (EMBEDDER, {}, {"kind": "sentence", "path": "/nowhere"}),
    "an embedder of one dimension": (EMBEDDER, {"components": np.ones(3, np.float32)}, {"kind": "text"}),
    "an embedder of too few buckets": (EMBEDDER, {"components": np.ones((3, 2), np.float32)}, {"kind": "text"}),
}  # fmt: skip
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    ITEM_CF: (CF.arrays(), {}), RANKER: (RANK.arrays(), {"kind": "listwise", "features": list(NAMES)}),
    EMBEDDER: (TextEmbedder.fit(["a b", "a c", "b c"], 2).arrays(), {"kind": "text"}),
}  # fmt: skip


@pytest.mark.parametrize("how", [*BROKEN, "a changed file"])
async def test_a_broken_artifact_never_replaces_what_is_live(
    registry: Registry, clock: FixedClock, tmp_path: Path, how: str
) -> None:
    name, arrays, about = BROKEN.get(how, (ITEM_CF, {**CF.arrays(), "a": np.ones(3)}, {}))
    await live(registry, name, GOOD[name][0], **GOOD[name][1])
    watch = Live(registry)
    before = await watch.refresh("t")
    assert name in before.versions
    clock.pass_s(1)
    await live(registry, name, arrays, **about)
    if how == "a changed file":
        spoil(tmp_path, "changed")
    assert await watch.refresh("t") is before
    assert await watch.refresh("t") is before
    clock.pass_s(1)
    better = await live(registry, name, GOOD[name][0], **GOOD[name][1])
    assert (await watch.refresh("t")).versions[name] == better.id


async def test_a_store_that_was_away_is_no_fault_of_the_version(clock: FixedClock, tmp_path: Path) -> None:
    class Documents(MemoryDocuments):
        away = False

        async def get(self, *key: str) -> Document | None:
            if self.away:
                raise Unavailable("away")
            return await super().get(*key)

    documents = Documents(clock)
    registry = Registry(documents, Blobs(tmp_path), clock)
    watch, version = Live(registry), await live(registry, ITEM_CF, CF.arrays())
    documents.away = True
    with pytest.raises(Unavailable):
        await watch.refresh("t")
    documents.away = False
    assert (await watch.refresh("t")).versions == {ITEM_CF: version.id}


async def test_a_flow_sees_a_new_embedder_within_the_poll(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Live(registry, (EMBEDDER,))
    assert await watch.embedder_of("t") is None
    text = TextEmbedder.fit(["a b", "a c", "b c"], 2)
    await live(registry, EMBEDDER, text.arrays(), kind="text")
    await live(registry, ITEM_CF, CF.arrays())
    assert await watch.embedder_of("t") is None  # looked a moment ago
    monkeypatch.setattr("ray_app.registry.watch.POLL_S", POLL_S * 0)
    found = await watch.embedder_of("t")
    assert found is not None
    assert found.version == text.version
    assert watch.of("t").recallers == {}
