"""Recall, rank and rerank for one request; the evaluator calls it too, so that what is measured is what serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ray_app.features.view import view
from ray_app.models.base import Scene
from ray_app.recommend.pins import pinned_rows
from ray_app.recommend.place import Judged, Ranked
from ray_app.recommend.rank import beside, rank
from ray_app.recommend.recall import Candidates, merge, recall
from ray_app.recommend.request import Request
from ray_app.recommend.rerank import Plan, Reranked, rerank
from ray_app.types import Matrix, Rows, Scored, Scores


class Stages(Protocol):
    """Where the three stages run. None raises for a part that is away: `r.budget.degraded` says what was left out."""

    async def recall(self, r: Request) -> Candidates: ...

    async def rank(self, r: Request, features: Matrix, candidates: Candidates) -> Judged: ...

    async def rerank(self, r: Request, rows: Rows, scores: Scores) -> Reranked: ...


class Inline:
    """In this process: a hop costs milliseconds. Nothing here waits."""

    async def recall(self, r: Request) -> Candidates:
        return recall(r.visitor, r.scenario, r.models.recallers, r.fresh, r.moment, r.budget)

    async def rank(self, r: Request, features: Matrix, candidates: Candidates) -> Judged:
        return rank(r.models.ranker, scene_of(r, features, candidates), r.scenario.score, candidates.scores, r.budget)

    async def rerank(self, r: Request, rows: Rows, scores: Scores) -> Reranked:
        return rerank(rows, scores, plan(r), r.moment.pinned)


INLINE = Inline()


def choose(r: Request) -> Ranked:
    """`decide` in this process, for callers without an event loop."""
    try:
        decide(r, {}, INLINE).send(None)
    except StopIteration as done:
        ranked: Ranked = done.value
        return ranked
    raise RuntimeError("a stage of this process has waited for something")


async def decide(r: Request, far: Mapping[str, Scored], stages: Stages) -> Ranked:
    """`far`: what channels in other processes found."""
    moment, scenario, budget = r.moment, r.scenario, r.budget
    with budget.stage("recall"):
        candidates = await stages.recall(r)
        if far:
            found = {**candidates.found, **far}
            candidates = merge(found, scenario.channels, scenario.candidates, moment.pinned.n)
    features, judged, shadow = np.zeros((0, 0), np.float32), Judged(candidates.scores), None
    if scenario.ranked and len(candidates.rows):
        with budget.stage("features"):
            features = view(r.visitor, candidates.rows, candidates.found, candidates.scores, moment)
        with budget.stage("rank"):
            judged = await stages.rank(r, features, candidates)
        if r.models.shadow is not None:
            with budget.stage("shadow"):
                shadow = beside(r.models.shadow, scene_of(r, features, candidates), scenario.score, budget)
    scores = judged.scores
    pins = _pins(r, candidates.rows, scores)
    with budget.stage("rerank"):
        free = ~np.isin(candidates.rows, list(pins)) if pins else slice(None)
        reranked = await stages.rerank(r, candidates.rows[free], scores[free])
    return Ranked(candidates, features, judged, reranked, pins, shadow)


def scene_of(r: Request, features: Matrix, candidates: Candidates) -> Scene:
    return Scene(features, candidates.rows, r.visitor)


def plan(r: Request) -> Plan:
    return Plan(r.n, r.scenario, r.rules, r.moment.now, r.seed)


def _pins(r: Request, rows: Rows, scores: Scores) -> dict[int, int]:
    """Of items that a rule may pin, candidates come before others, and of others the hot ones."""
    if not r.scenario.pins and not r.rules:
        return {}
    hot = r.moment.board.hot
    best = np.asarray(hot / max(float(hot.max(initial=0.0)), 1e-9), np.float32)
    best[rows] = 2.0 + np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return pinned_rows(r.scenario, r.rules, r.allowed, r.n, r.moment.pinned, best)
