"""The gate: a model that is worse, or that cannot be judged, never goes live."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Channel
from ray_app.clock import FixedClock
from ray_app.config import Settings, load
from ray_app.events.schema import item_to_dict
from ray_app.features.view import NAMES
from ray_app.models.itemcf import VARIANTS, ItemCF
from ray_app.registry.registry import Registry
from ray_app.registry.version import Version
from ray_app.registry.watch import EMBEDDER, ITEM_CF, OF_KIND, RANKER, Live, Models
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.training.embed import embed
from ray_app.training.gate import Made, release
from ray_app.training.history import History, from_columns
from ray_app.training.judge import K
from ray_app.training.listwise import Network
from ray_app.training.profiles import profiles
from ray_app.training.rankers import Designs
from ray_app.training.recallers import learn
from ray_app.training.report import Refused, Report
from ray_app.training.runs import history as runs_of
from ray_app.training.runs import recorded
from ray_app.training.similarity import Sharing
from ray_app.training.train import How, fit_ranker
from tests.unit.make import DAY_MS, NOW, TENANT, item, shelf

if TYPE_CHECKING:
    from redis.asyncio import Redis

pytestmark = pytest.mark.long
ITEMS, USERS, DAYS = 80, 60, 70
WORDS = ("red", "green", "blue", "tea", "cup", "pot", "bowl", "spoon")


def quiet(line: str) -> None:
    """A job's lines go nowhere."""


def columns(per_user: int = 25, noise: float = 0.15) -> dict[str, Any]:
    """Each user buys in one of eight groups of ten items, and now and then anywhere."""
    drawn = np.random.default_rng(5)
    n = USERS * per_user
    users = np.repeat(np.arange(USERS), per_user)
    group = users % 8
    rows = np.where(drawn.random(n) < noise, drawn.integers(0, ITEMS, n), group * 10 + drawn.integers(0, 10, n))
    at = NOW - drawn.choice(DAYS * DAY_MS, n, replace=False)
    order = np.argsort(at)
    return {
        "visitor": np.array([f"u:{u}" for u in users])[order], "item_id": np.array([f"i{r}" for r in rows])[order],
        "type": np.array(["purchase"] * n), "occurred_at": at[order],
    }  # fmt: skip


@pytest.fixture(scope="module")
def pinned() -> Pinned:
    return shelf([item(f"i{k}", category=f"c{k % 5}", published_at=NOW - 90 * DAY_MS) for k in range(ITEMS)]).pin()


@pytest.fixture(scope="module")
def known(pinned: Pinned) -> History:
    return from_columns(columns(), pinned.rows, pinned.n)


def listwise(epochs: int, rate: float) -> How:
    """One ranker beside popularity, so that what is compared is known."""
    return How(designs=Designs(("popularity", "listwise"), Network((), epochs=epochs, learning_rate=rate)))


HARDLY_LEARNING, LEARNING = listwise(1, 1e-4), listwise(20, 2e-2)


NONE = Models()


def refused(
    known: History, pinned: Pinned, how: How = LEARNING, live: Models = NONE, before: Version | None = None
) -> Refused:
    with pytest.raises(Refused) as found:
        fit_ranker(known, pinned, live, how, before={RANKER: before} if before else {})
    return found.value


def test_what_beats_popularity_is_fitted_with_its_honest_figures(known: History, pinned: Pinned) -> None:
    found = fit_ranker(known, pinned, Models(), LEARNING)[RANKER]
    assert found.ranker.kind == "listwise"
    assert found.metrics[f"ndcg@{K}"] > found.metrics[f"popularity_ndcg@{K}"] > 0
    assert found.evaluated_from == int(known.events.at[-1]) + 1 - 14 * DAY_MS


def test_a_baseline_that_wins_serves_and_the_job_says_so(known: History, pinned: Pinned) -> None:
    said: list[str] = []
    found = fit_ranker(known, pinned, Models(), HARDLY_LEARNING, said.append)[RANKER]
    assert found.ranker.kind == "popularity"
    assert found.metrics[f"ndcg@{K}"] == found.metrics[f"popularity_ndcg@{K}"] > found.metrics[f"listwise_ndcg@{K}"]
    assert any("the baseline popularity wins and is to serve" in line for line in said)


def version(until: int, ndcg: float) -> Version:
    return Version(RANKER, "1", 0, {}, metrics={f"ndcg@{K}": ndcg}, about={"until": until, "features": list(NAMES)})


def test_what_is_below_the_live_version_on_a_slice_that_neither_saw_is_refused(known: History, pinned: Pinned) -> None:
    live = fit_ranker(known, pinned, Models(), LEARNING)[RANKER]
    less = listwise(1, 1e-2)
    worse = fit_ranker(known, pinned, NONE, less)[RANKER].metrics
    assert worse[f"popularity_ndcg@{K}"] < worse[f"ndcg@{K}"] < live.metrics[f"ndcg@{K}"]
    found = refused(known, pinned, less, Models(ranker=live.ranker), version(0, 0.0))
    assert f"ndcg@{K} {worse[f'ndcg@{K}']:.4f} is below the live version's bar" in str(found)


def test_a_live_version_that_saw_the_slice_is_the_bar_by_its_own_figure(known: History, pinned: Pinned) -> None:
    live = fit_ranker(known, pinned, Models(), LEARNING)[RANKER]
    own, seen = live.metrics[f"ndcg@{K}"], int(known.events.at[-1])
    models = Models(ranker=live.ranker)
    assert (
        fit_ranker(known, pinned, models, LEARNING, before={RANKER: version(seen, own)})[RANKER].metrics == live.metrics
    )
    found = refused(known, pinned, LEARNING, models, version(seen, own / 0.8 + 0.01))
    assert f"is below the live version's bar {0.8 * (own / 0.8 + 0.01):.4f}" in str(found)


def test_a_live_version_of_another_view_is_the_bar_by_its_own_figure(known: History, pinned: Pinned) -> None:
    live = fit_ranker(known, pinned, Models(), LEARNING)[RANKER]
    own = live.metrics[f"ndcg@{K}"]
    other = Version(RANKER, "1", 0, {}, metrics={f"ndcg@{K}": own}, about={"until": 0, "features": ["price"]})
    assert fit_ranker(known, pinned, NONE, LEARNING, before={RANKER: other})[RANKER].metrics == live.metrics
    found = refused(known, pinned, LEARNING, NONE, replace(other, metrics={f"ndcg@{K}": own / 0.8 + 0.01}))
    assert "is below the live version's bar" in str(found)


def test_lists_with_nothing_that_was_taken_are_refused(known: History, pinned: Pinned) -> None:
    """What was bought is seen, so that buying again finds nothing new."""
    nothing = replace(HOME, channels={"buy_again": Channel(1.0, 50)})
    found = refused(known, pinned, replace(LEARNING, scenario=nothing))
    assert "is 0: no list has anything that was taken later" in str(found) or "nothing to learn" in str(found)


def test_without_one_ranker_that_can_be_fitted_the_reasons_are_named(known: History, pinned: Pinned) -> None:
    broken = How(designs=Designs(("listwise",), Network((), epochs=20, learning_rate=float("inf"))))
    assert "listwise: left out, ranker listwise" in str(refused(known, pinned, broken))


@pytest.mark.parametrize("events", [0, 1, 200])
def test_too_little_history_is_refused_with_what_is_needed(pinned: Pinned, events: int) -> None:
    few = {k: v[len(v) - events :] for k, v in columns().items()}
    found = refused(from_columns(few, pinned.rows, pinned.n), pinned)
    assert "no behaviours yet" in str(found) or "at least 20 visitors" in str(found)


@dataclass
class Told:
    """The analytics store as training reads it: the columns of one query."""

    found: Mapping[str, Any]

    async def columns(self, sql: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        keep = self.found["occurred_at"] < parameters["before"] if self.found else []
        return {k: v[keep] for k, v in self.found.items()}


@dataclass
class World:
    settings: Settings
    clock: FixedClock
    documents: MemoryDocuments
    vectors: SqliteVectors
    redis: Redis
    olap: Any
    blobs: Blobs
    registry: Registry


@pytest.fixture
async def world(clock: FixedClock, documents: MemoryDocuments, redis: Redis, tmp_path: Path) -> AsyncIterator[World]:
    for k in range(ITEMS):
        one = item(f"i{k}", title=f"{WORDS[k // 10]} {WORDS[k % 8]}", published_at=NOW - 90 * DAY_MS)
        await documents.upsert(TENANT, "items", [Document(one.id, 1, {**item_to_dict(one), "row": k})])
    await documents.next_number(TENANT, "rows", ITEMS)
    vectors, blobs = SqliteVectors(tmp_path / "v.db"), Blobs(tmp_path / "blobs")
    yield World(
        load({"LEMO_DATA": str(tmp_path)}), clock, documents, vectors, redis, Told(columns()), blobs,
        Registry(documents, blobs, clock),
    )  # fmt: skip
    await vectors.close()


async def test_neighbours_go_live_and_a_worse_fit_leaves_them(world: World, clock: FixedClock) -> None:
    first = await learn(world, TENANT, ITEM_CF, quiet)
    assert first.version is not None
    assert first.metrics["recall@20"] > 0.2
    drawn = np.random.default_rng(0)
    world.olap = Told({**columns(), "item_id": np.array([f"i{r}" for r in drawn.integers(0, ITEMS, USERS * 25)])})
    clock.pass_s(1)
    second = await learn(world, TENANT, ITEM_CF, quiet)
    assert second.version is None
    assert "is below 70% of the live version's" in second.why
    assert await world.registry.live_ids(TENANT) == {ITEM_CF: first.version}


async def test_the_same_history_makes_no_second_version_and_leaves_no_run(world: World, clock: FixedClock) -> None:
    first = await learn(world, TENANT, ITEM_CF, quiet, Sharing(part=5000))
    clock.pass_s(1)
    second = await learn(world, TENANT, ITEM_CF, quiet, Sharing(part=5000))
    assert (second.version, second.why) == (first.version, "it was made of this input already")
    assert len(await world.registry.list(TENANT, ITEM_CF)) == 1
    assert world.blobs.names(f"{TENANT}/runs") == []


async def test_neighbours_made_in_parts_are_those_of_the_whole(world: World) -> None:
    told: list[str] = []
    report = await learn(world, TENANT, ITEM_CF, told.append, Sharing(part=3000))
    assert "part 4 of 4" in told
    version = await world.registry.get(TENANT, ITEM_CF, report.version or "")
    found = await world.registry.load(TENANT, version)
    pinned = shelf([item(f"i{k}") for k in range(ITEMS)]).pin()
    events = from_columns(columns(), pinned.rows, pinned.n).events
    variant = version.about["variant"]
    whole = ItemCF.fit(events, int(events.at[-1]) + 1, VARIANTS[variant], variant).arrays()
    assert all(np.array_equal(found[k], whole[k]) for k in ("neighbours", "weights"))


CF = {"neighbours": np.array([[1], [0]], np.int32), "weights": np.ones((2, 1), np.float32)}


@pytest.mark.parametrize(
    ("parts", "metrics", "why"),
    [
        ({}, {}, "it is empty: no file holds nothing"),
        ({"neighbours": np.zeros((0, 1), np.int32)}, {}, "it is empty: neighbours holds nothing"),
        ({**CF, "weights": np.array([[np.nan], [1.0]], np.float32)}, {}, "1 of the 2 numbers of weights are NaN"),
        (CF, {"recall@20": float("nan")}, "its figure recall@20 is nan"),
        ({"weights": CF["weights"]}, {}, "it cannot be served: KeyError: 'neighbours'"),
    ],
)
async def test_what_is_broken_is_refused_with_the_reason_and_what_is_live_stays(
    world: World, clock: FixedClock, parts: dict[str, Any], metrics: dict[str, float], why: str
) -> None:
    good = await release(world, TENANT, Made(ITEM_CF, CF))
    clock.pass_s(1)
    report = await release(world, TENANT, Made(ITEM_CF, parts, metrics))
    assert (report.version, report.why) == (None, why)
    assert await world.registry.live_ids(TENANT) == {ITEM_CF: good.version}


async def test_a_ranker_of_another_schema_is_refused(world: World) -> None:
    arrays = {"centre": np.zeros(1), "spread": np.ones(1), "weight0": np.ones((1, 1)), "bias0": np.zeros(1)}
    report = await release(world, TENANT, Made(RANKER, arrays, about={"features": ["price"]}))
    assert "was trained on features ['price']; the view gives" in report.why
    assert [v.status.value for v in await world.registry.list(TENANT, RANKER)] == ["retired"]


@pytest.mark.parametrize("policy", ["live", "shadow", "staged"])
async def test_the_policy_says_how_it_goes_on(world: World, policy: Any) -> None:
    report = await release(world, TENANT, Made(ITEM_CF, CF), policy)
    version = await world.registry.get(TENANT, ITEM_CF, report.version or "")
    assert (version.status.value, report.status) == (policy, policy)
    assert str(report) == f"item_cf: version {version.id} is {policy}."


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "there are no behaviours yet"),
        ({k: v[:1] for k, v in columns().items()}, "no two items have a visitor in common"),
    ],
)
async def test_neighbours_of_hardly_anything_are_refused(world: World, found: dict[str, Any], why: str) -> None:
    world.olap = Told(found)
    report = await learn(world, TENANT, ITEM_CF, quiet)
    assert (report.version, report.why) == (None, why)
    assert "What was live stays" in str(report)
    assert await world.registry.live_ids(TENANT) == {}


async def test_an_embedder_goes_live_with_a_vector_for_every_item(world: World) -> None:
    report = await embed(world, TENANT, quiet, size=8)
    watch = Live(world.registry)
    models = await watch.refresh(TENANT)
    assert models.versions == {EMBEDDER: report.version}
    assert models.embedder is not None
    rows, vectors = await world.vectors.load(TENANT, models.embedder.version)
    assert rows.tolist() == list(range(ITEMS))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize(("titles", "why"), [
    (["one"], "1 items are too few to fit on"), (["alpha", "beta", "gamma"], "less than 50% of the items got a vector"),
])  # fmt: skip
async def test_an_embedder_of_hardly_anything_is_refused(world: World, titles: list[str], why: str) -> None:
    for k, title in enumerate(titles):
        one = item(f"i{k}", title=title, tenant="small")
        await world.documents.upsert("small", "items", [Document(one.id, 1, {**item_to_dict(one), "row": k})])
    report = await embed(world, "small", quiet)
    assert (report.version, report.why) == (None, why)
    assert await world.registry.live_ids("small") == {}


async def test_profiles_say_what_visitors_care_for_and_are_the_same_when_made_again(world: World) -> None:
    report = await profiles(world, TENANT, quiet)
    assert report.metrics == {"profiles": USERS}
    found = await world.documents.get(TENANT, "profiles", "u:3")
    assert found is not None
    assert found.body["taken"] == 25
    assert sum(found.body["categories"].values()) == pytest.approx(1.0, abs=1e-3)
    await profiles(world, TENANT, quiet)
    again = await world.documents.get(TENANT, "profiles", "u:3")
    assert again == found


async def test_a_run_is_recorded_with_how_it_ended(world: World, clock: FixedClock) -> None:
    async def good(tell: Any) -> Report:
        tell("half way")
        return Report("x", "7", {"y": 1.0})

    async def bad(tell: Any) -> Report:
        raise RuntimeError("no")

    await recorded(world, TENANT, "job", {"a": 1}, good)
    clock.pass_s(1)
    with pytest.raises(RuntimeError):
        await recorded(world, TENANT, "job", {}, bad)
    newest, first = await runs_of(world, TENANT)
    assert (newest["state"], newest["why"]) == ("failed", "RuntimeError: no")
    assert (first["state"], first["version"], first["metrics"], first["asked"]) == ("done", "7", {"y": 1.0}, {"a": 1})
    kept = await world.documents.get(TENANT, "runs", first["id"])
    assert kept is not None
    assert kept.body["lines"] == ["half way"]


async def test_a_run_that_is_asked_to_end_is_cancelled_and_one_that_was_killed_is_lost(
    world: World, clock: FixedClock
) -> None:
    begun = asyncio.Event()

    async def long(tell: Any) -> Report:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    running = asyncio.create_task(recorded(world, TENANT, "job", {}, long))
    await begun.wait()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await running
    clock.pass_s(1)
    body = {"id": "job-1", "job": "job", "state": "running", "started_at": clock.now()}
    await world.documents.upsert(TENANT, "runs", [Document("job-1", clock.now(), body)])

    async def good(tell: Any) -> Report:
        return Report("x", "7")

    clock.pass_s(1)
    await recorded(world, TENANT, "job", {}, good)
    assert [r["state"] for r in await runs_of(world, TENANT)] == ["done", "lost", "cancelled"]


def test_a_kind_that_is_named_gets_a_version_of_its_own_or_the_reason_is_told(known: History, pinned: Pinned) -> None:
    said: list[str] = []
    how, poor = replace(LEARNING, named=("logistic", "listwise")), OF_KIND["logistic"]
    found = fit_ranker(known, pinned, NONE, how, said.append)
    kinds = {name: t.ranker.kind for name, t in found.items() if name != RANKER}
    assert kinds == {poor: "logistic", OF_KIND["listwise"]: "listwise"}
    best = OF_KIND[found[RANKER].ranker.kind]
    assert found[best].ranker is found[RANKER].ranker, "fitted once"
    assert found[poor].metrics[f"ndcg@{K}"] == found[RANKER].metrics[f"logistic_ndcg@{K}"]
    before = {poor: replace(version(int(known.events.at[-1]), 10.0), name=poor)}
    assert list(fit_ranker(known, pinned, NONE, how, said.append, before)) == [RANKER, OF_KIND["listwise"]]
    assert any(line.startswith(f"{poor}: no new version") and "below the live version's bar 8" in line for line in said)
