"""Rank: one forward pass for all candidates, and the scenario's expression over what it predicts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_app.catalog import expression
from ray_app.features.view import NAMES
from ray_app.models.base import predict_many
from ray_app.models.popularity import Popularity
from ray_app.recommend.budget import Budget
from ray_app.recommend.place import Judged
from ray_app.types import Degraded, Matrix, Scores

if TYPE_CHECKING:
    from ray_app.models.base import Ranker, Scene

logger = logging.getLogger(__name__)
POPULARITY = "popularity"  # the version that answers name before the first training
UNTRAINED = Popularity(POPULARITY, NAMES)


def rank(ranker: Ranker | None, scene: Scene, score: str, merged: Scores, budget: Budget) -> Judged:
    """`score`: the scenario's expression; `merged` float32 [m] where time is spent."""
    if ranker is None:
        return Judged(UNTRAINED.lifted(scene))
    if not budget.left_s():
        budget.degraded.append(Degraded("rank", "the time budget is spent"))
        return Judged(merged)
    return judge(ranker, scene, score)


def judge(ranker: Ranker, scene: Scene, score: str) -> Judged:
    """The expression over what is predicted, and the predictions by task."""
    return judge_many(ranker, [scene], [score])[0]


def judge_many(ranker: Ranker, scenes: Sequence[Scene], scores: Sequence[str]) -> list[Judged]:
    """The same of several requests at once, each with its expression."""
    predicted = predict_many(ranker, scenes)
    return [_judged(score, one) for score, one in zip(scores, predicted, strict=True)]


def _judged(score: str, predicted: Matrix) -> Judged:
    return Judged(expression.score(score, predicted), dict(zip(expression.TASKS, predicted.T, strict=True)))


def beside(shadow: Ranker, scene: Scene, score: str, budget: Budget) -> Scores | None:
    """What the shadow ranker says, float32 [m]; None without time, or where the live one did not answer: there would be
    nothing to compare. It may fail and harms nobody."""
    if not budget.left_s() or any(d.stage == "rank" for d in budget.degraded):
        return None
    try:
        return expression.score(score, shadow.predict(scene))
    except (ValueError, IndexError, FloatingPointError) as e:
        logger.warning("the shadow ranker failed", extra={"version": shadow.version, "why": str(e)[:200]})
        return None
