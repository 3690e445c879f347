"""Stages in other processes: bit by bit the same answers as inline, and what happens when one is away or behind."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ray_app.catalog.scenario import HOME, Scenario
from ray_app.catalog.shelves import Shelves
from ray_app.clock import SystemClock
from ray_app.config import Features
from ray_app.events.schema import item_to_dict
from ray_app.features.boards import Boards
from ray_app.recommend.budget import Budget
from ray_app.recommend.graph import Graph, RankAsk, RecallAsk
from ray_app.recommend.request import Request
from ray_app.recommend.stages import INLINE, Stages, decide
from ray_app.recommend.station import ModelServer, Station, judge_all, known_to
from ray_app.registry.registry import Registry
from ray_app.registry.watch import Live, Models
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.types import Matrix, Scores
from tests.unit.make import NOW, TENANT, item, moment, visitor

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


class Sums:
    """Counts its forward passes."""

    version = "sums"
    passes = 0

    def score(self, features: Matrix) -> Scores:
        self.passes += 1
        return features.sum(axis=1)


def test_requests_that_come_together_share_one_forward_pass() -> None:
    ranker, drawn = Sums(), np.random.default_rng(1)
    asks = [RankAsk(TENANT, drawn.normal(size=(m, 4)).astype(np.float32)) for m in (3, 0, 5)]
    found = judge_all(ranker, asks)
    assert ranker.passes == 1
    assert all(np.array_equal(j.scores, a.features.sum(axis=1)) for j, a in zip(found, asks, strict=True))


async def test_a_model_server_without_a_ranker_says_so(tmp_path: Path) -> None:
    asks = [RankAsk(t, np.zeros((2, 4), np.float32)) for t in ("a", "b", "a")]
    assert [a.version for a in await server(tmp_path).rank(asks)] == [None] * 3
