"""Recall, rank and rerank for one request; the evaluator calls it too, so that what is measured is what serves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ray_app.features.view import view
from ray_app.models.base import Scene
from ray_app.recommend.place import Ranked
from ray_app.recommend.rank import beside, rank
from ray_app.recommend.recall import merge, recall
from ray_app.recommend.request import Request
from ray_app.recommend.rerank import rerank
from ray_app.types import Scored


def choose(r: Request, far: Mapping[str, Scored] | None = None) -> Ranked:
    """`far`: what channels in other processes found."""
    moment, scenario, budget = r.moment, r.scenario, r.budget
    with budget.stage("recall"):
        candidates = recall(r.visitor, scenario, r.models.recallers, r.fresh, moment, budget)
        if far:
            found = {**candidates.found, **far}
            candidates = merge(found, scenario.channels, scenario.candidates, moment.pinned.n)
    features, scores, shadow = np.zeros((0, 0), np.float32), candidates.scores, None
    if scenario.ranked and len(candidates.rows):
        with budget.stage("features"):
            features = view(r.visitor, candidates.rows, candidates.found, candidates.scores, moment)
        with budget.stage("rank"):
            scene = Scene(features, candidates.rows, r.visitor)
            scores = rank(r.models.ranker, scene, scenario.score, candidates.scores, budget)
        if r.models.shadow is not None:
            with budget.stage("shadow"):
                shadow = beside(r.models.shadow, scene, scenario.score, budget)
    with budget.stage("rerank"):
        picked = rerank(candidates.rows, scores, r.n, scenario, moment.pinned)
    return Ranked(candidates, features, scores, picked, shadow)
