"""Stages in other processes: bit by bit the same answers as inline, and what happens when one is away or behind."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ray_app.catalog import expression
from ray_app.catalog.rows import FIRST
from ray_app.catalog.scenario import HOME, Scenario
from ray_app.catalog.shelves import Shelves
from ray_app.clock import SystemClock
from ray_app.config import Features
from ray_app.errors import Unavailable
from ray_app.events.schema import item_to_dict
from ray_app.features.boards import Boards
from ray_app.features.view import NAMES
from ray_app.models.base import Ranker, Scene
from ray_app.models.multitask import MultiTask
from ray_app.models.on_device import OnDevice
from ray_app.recommend.budget import Budget
from ray_app.recommend.graph import Graph, RankAsk, RecallAsk
from ray_app.recommend.place import Ranked, place
from ray_app.recommend.rank import POPULARITY, judge
from ray_app.recommend.request import Request
from ray_app.recommend.stages import INLINE, Stages, decide
from ray_app.recommend.station import ModelServer, Station, known_to
from ray_app.recommend.trace import said_of, short
from ray_app.registry.registry import Registry
from ray_app.registry.watch import RANKER, Live, Models
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.training.rankers import fit, parts
from ray_app.types import Matrix
from tests.unit.make import NOW, TENANT, item, moment, visitor
from tests.unit.training.test_contest import DESIGNS, NAMED, drawn

if TYPE_CHECKING:
    from redis.asyncio import Redis

N, CLOCK = 60, SystemClock()
PATIENT = replace(HOME, budget_s=5.0)


@pytest.fixture
async def station(documents: MemoryDocuments, redis: Redis, tmp_path: Path) -> AsyncIterator[Station]:
    for k in range(N):
        one = item(f"i{k}", category=f"c{k % 4}", price=float(k), published_at=NOW - k * 86_400_000)
        await documents.upsert(TENANT, "items", [Document(one.id, 1, {**item_to_dict(one), "row": k})])
    await documents.next_number(TENANT, "rows", N)
    vectors = SqliteVectors(tmp_path / "v.db")
    shelves = Shelves(documents, vectors, redis, "p", lambda tenant: None)
    await shelves.of(TENANT)
    yield Station(CLOCK, lambda tenant: Models(), shelves, Boards(redis, lambda: "p", Features()))
    await shelves.stop()
    await vectors.close()


def server(tmp_path: Path) -> ModelServer:
    return ModelServer(Live(Registry(MemoryDocuments(CLOCK), Blobs(tmp_path / "blobs"), CLOCK)))


def graph(station: Station, models: ModelServer, **instead: Any) -> Graph:
    async def rank(ask: RankAsk) -> Any:
        return (await models.rank([ask]))[0]

    return Graph(**{"recall": station.recall, "rank": rank, "rerank": station.rerank, "clock": CLOCK, **instead})


async def asked(station: Station, scenario: Scenario = PATIENT) -> Request:
    pinned = (await station.shelves.of(TENANT)).pin()
    fresh = np.random.default_rng(2).random(pinned.n) < 0.8
    budget = Budget(CLOCK, scenario.budget_s)
    return Request(
        10, visitor([3, 9]), scenario, Models(), moment(pinned, [0.0] * pinned.n), budget, fresh, fresh, seed=7,
        tenant=TENANT,
    )  # fmt: skip


async def answer(request: Request, stages: Stages) -> Any:
    return await decide(request, {}, stages)


async def test_both_placements_answer_alike_to_the_bit(station: Station, tmp_path: Path) -> None:
    from ray_app.catalog.reranking import Exploration

    scenario = replace(PATIENT, exploration=Exploration(0.5), diversifier="dpp")
    here = await answer(await asked(station, scenario), INLINE)
    there = await answer(await asked(station, scenario), graph(station, server(tmp_path)))
    assert here.picked.tolist() == there.picked.tolist()
    for a, b in ((here.scores, there.scores), (here.features, there.features),
                 (here.reranked.propensities, there.reranked.propensities)):  # fmt: skip
        assert np.array_equal(a, b)
    assert list(here.reranked.steps) == list(there.reranked.steps)


async def away(ask: Any) -> Any:
    raise ConnectionError("no replica")


async def hangs(ask: Any) -> Any:
    await asyncio.sleep(60)


@pytest.mark.parametrize("stage", ["recall", "rank", "rerank"])
async def test_a_stage_that_is_away_is_left_out_and_named_and_then_left_alone(
    station: Station, tmp_path: Path, stage: str
) -> None:
    broken = graph(station, server(tmp_path), **{stage: away})
    for k in range(4):
        request = await asked(station)
        found = await answer(request, broken)
        (why,) = request.budget.degraded
        assert (why.stage, why.reason) == (
            stage, "ConnectionError: no replica" if k < 3 else "left alone after repeated failures"
        )  # fmt: skip
        assert len(found.picked) == (0 if stage == "recall" else 10)


async def test_a_stage_that_hangs_costs_no_more_than_the_budget(station: Station, tmp_path: Path) -> None:
    request, began = await asked(station, replace(PATIENT, budget_s=1.0)), CLOCK.monotonic()
    found = await answer(request, graph(station, server(tmp_path), rank=hangs))
    assert CLOCK.monotonic() - began < 2
    assert [(d.stage, d.reason) for d in request.budget.degraded] == [("rank", "took too long")]
    assert len(found.picked) == 10


@pytest.mark.parametrize("stage", ["recall", "rank", "rerank"])
async def test_a_stage_with_other_rows_says_so_and_is_left_out_but_asked_again(
    station: Station, tmp_path: Path, stage: str
) -> None:
    """A compaction reaches one process before the other: its rows are other items."""
    models = server(tmp_path)

    def there(call: Any) -> Any:
        return lambda ask: call(replace(ask, epoch=FIRST.id))

    async def rank(ask: RankAsk) -> Any:
        return (await models.rank([replace(ask, epoch=FIRST.id)]))[0]

    moved_too = {"recall": there(station.recall), "rank": rank, "rerank": there(station.rerank)}
    behind = graph(station, models, **{name: call for name, call in moved_too.items() if name != stage})
    moved = replace(moment((await station.shelves.of(TENANT)).pin(), [0.0] * N).pinned, epoch="moved")
    for _ in range(4):  # more often than a breaker suffers
        request = await asked(station)
        request = replace(request, moment=replace(request.moment, pinned=moved))
        found = await answer(request, behind)
        (why,) = request.budget.degraded
        assert (why.stage, why.reason) == (stage, "it has the rows of epoch 0, not of this answer's")
        assert len(found.picked) == (0 if stage == "recall" else 10)


def test_a_mask_travels_as_bits_and_fits_a_shelf_that_is_behind_or_ahead() -> None:
    fresh = np.random.default_rng(1).random(21) < 0.5
    ask = RecallAsk(TENANT, visitor(), HOME, np.packbits(fresh).tobytes(), 21, 1.0)
    sent = pickle.loads(pickle.dumps(ask))
    assert np.array_equal(sent.mask(21), fresh)
    assert np.array_equal(sent.mask(9), fresh[:9])
    assert np.array_equal(sent.mask(30), [*fresh, *[False] * 9])


def test_a_visitor_keeps_what_a_smaller_shelf_knows() -> None:
    who = known_to(replace(visitor([5, 70, 7], seen=[5, 70]), context=70), 60)
    assert (who.recent.tolist(), who.seen.tolist(), who.context) == ([5, 7], [5], None)
    assert len(who.weights) == len(who.ages_s) == len(who.counts) == 2
    whole = visitor([5], seen=[5])
    assert known_to(whole, 60) is whole


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    """One that looks at features, rows and the visitor."""
    return fit("attention", parts(drawn(1), NAMED), "v", DESIGNS, lambda line: None)


async def with_live(ranker: Ranker, tmp_path: Path) -> Registry:
    registry = Registry(MemoryDocuments(CLOCK), Blobs(tmp_path / "blobs"), CLOCK)
    about = {"kind": ranker.kind, "features": list(NAMES)}
    await registry.promote(TENANT, await registry.register(TENANT, RANKER, ranker.arrays(), {}, about))
    return registry


async def served(ranker: Ranker, tmp_path: Path) -> tuple[ModelServer, Models]:
    """A model server with the ranker live, and what a gateway holds."""
    live = Live(await with_live(ranker, tmp_path))
    return ModelServer(live), await live.refresh(TENANT)


async def test_the_scene_goes_to_the_model_server_and_the_scenario_s_score_comes_back(
    station: Station, tmp_path: Path, ranker: Ranker
) -> None:
    models, held = await served(ranker, tmp_path)
    for score in ("click", "click - 2 * log1p(click)"):
        scenario = replace(PATIENT, score=score)
        here = await answer(replace(await asked(station, scenario), models=held), INLINE)
        request = await asked(station, scenario)
        there = await answer(request, graph(station, models))
        assert request.budget.versions == {RANKER: held.versions[RANKER]}
        assert np.array_equal(here.scores, there.scores)
        assert np.array_equal(here.scores, expression.score(score, ranker.predict(scene_of(request, there))))
        assert list(there.judged.tasks) == list(here.judged.tasks) == list(expression.TASKS)
        assert all(np.array_equal(v, there.judged.tasks[k]) for k, v in here.judged.tasks.items())
        assert here.picked.tolist() == there.picked.tolist()
        assert said_of(there, 0) == {
            k: short(float(v[0])) for k, v in {"score": there.scores, **there.judged.tasks}.items()
        }


def scene_of(request: Request, ranked: Ranked) -> Scene:
    return Scene(ranked.features, ranked.candidates.rows, request.visitor)


async def test_a_shadow_is_scored_in_both_placements_but_not_where_the_live_ranker_did_not_answer(
    station: Station, tmp_path: Path, ranker: Ranker
) -> None:
    models, held = await served(ranker, tmp_path)
    held = replace(held, shadow=ranker)
    for stages, scored in ((INLINE, True), (graph(station, models), True), (graph(station, models, rank=away), False)):
        request = replace(await asked(station), models=held)
        found = await answer(request, stages)
        if scored:
            assert np.array_equal(found.shadow, found.scores)
        else:
            assert found.shadow is None
        assert all(i.shadow == (i.score if scored else None) for i in place(request, found))


async def test_an_order_by_popularity_is_not_said_to_be_a_ranker_s(
    station: Station, tmp_path: Path, ranker: Ranker
) -> None:
    """The gateway holds a ranker that the model server does not have yet."""
    _, held = await served(ranker, tmp_path)
    request = replace(await asked(station), models=held)
    await answer(request, graph(station, server(tmp_path / "empty")))
    assert request.budget.versions == {RANKER: POPULARITY}


async def test_all_who_ask_a_model_server_at_first_wait_for_its_ranker(tmp_path: Path, ranker: Ranker) -> None:
    registry = await with_live(ranker, tmp_path)
    fresh = ModelServer(Live(registry))
    scene = Scene(np.zeros((2, len(NAMES)), np.float32), np.arange(2, dtype=np.int32), visitor())
    answers = await asyncio.gather(*(fresh.rank([RankAsk(TENANT, scene, "click")]) for _ in range(3)))
    assert [a.version for (a,) in answers] == [(await registry.live_ids(TENANT))[RANKER]] * 3


async def test_what_a_model_server_is_asked_at_once_is_ranked_in_one_pass_where_the_ranker_was_moved_to(
    tmp_path: Path, ranker: Ranker
) -> None:
    class Counted(OnDevice):
        passes = 0

        def predict_many(self, scenes: Sequence[Scene]) -> list[Matrix]:
            Counted.passes += 1
            return super().predict_many(scenes)

    def move(one: Ranker) -> Ranker:
        assert isinstance(one, MultiTask)
        return Counted(one, "cpu", torch.float32)

    moved = ModelServer(Live(await with_live(ranker, tmp_path), move=move))
    scenes = [e.scene for e in drawn(3)[:6]]
    scores = ["click", "2 * click"] * 3
    asks = [RankAsk(TENANT, scene, score) for scene, score in zip(scenes, scores, strict=True)]
    answers = await moved.rank([*asks[:3], RankAsk("nobody", scenes[0], "click"), *asks[3:]])
    assert Counted.passes == 1
    assert answers.pop(3).version is None
    for found, scene, score in zip(answers, scenes, scores, strict=True):
        expected = judge(ranker, scene, score)
        assert found.judged.scores == pytest.approx(expected.scores, abs=1e-5)
        assert list(found.judged.tasks) == list(expected.tasks)


async def test_a_model_server_whose_registry_was_away_looks_again(tmp_path: Path) -> None:
    class Documents(MemoryDocuments):
        away = True

        async def find(self, *asked: Any, **how: Any) -> Any:
            if self.away:
                raise Unavailable("documents are away")
            return await super().find(*asked, **how)

    documents = Documents(CLOCK)
    fresh = ModelServer(Live(Registry(documents, Blobs(tmp_path / "blobs"), CLOCK)))
    ask = RankAsk(TENANT, Scene(np.zeros((2, 4), np.float32), np.arange(2, dtype=np.int32), visitor()), "click")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await fresh.rank([ask])
    documents.away = False
    assert [a.version for a in await fresh.rank([ask])] == [None]


async def test_a_model_server_without_a_ranker_says_so(tmp_path: Path) -> None:
    scene = Scene(np.zeros((2, 4), np.float32), np.arange(2, dtype=np.int32), visitor())
    asks = [RankAsk(t, scene, "click") for t in ("a", "b", "a")]
    assert [a.version for a in await server(tmp_path).rank(asks)] == [None] * 3
