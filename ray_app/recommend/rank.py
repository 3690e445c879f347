"""Rank: one forward pass for all candidates; before the first training, the merge lifted by popularity."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ray_app.features.boards import Board
from ray_app.recommend.budget import Budget
from ray_app.recommend.recall import Candidates
from ray_app.types import Degraded, Matrix, Scores

if TYPE_CHECKING:
    from ray_app.models.base import Ranker

logger = logging.getLogger(__name__)
POPULARITY = "popularity"  # the version that answers name before the first training


def by_popularity(candidates: Candidates, board: Board) -> Scores:
    """float32 [m]: the merged score times one plus the logarithm of the last week's sum."""
    return np.asarray(candidates.scores * (1.0 + np.log1p(board.hot[candidates.rows])), np.float32)


def rank(ranker: Ranker | None, features: Matrix, candidates: Candidates, board: Board, budget: Budget) -> Scores:
    """float32 [m], higher is better."""
    if ranker is None:
        return by_popularity(candidates, board)
    if not budget.left_s():
        budget.degraded.append(Degraded("rank", "the time budget is spent"))
        return candidates.scores
    return ranker.score(features)


def beside(shadow: Ranker, features: Matrix, budget: Budget) -> Scores | None:
    """What the shadow ranker says, float32 [m]; None without time. It may fail and harms nobody."""
    if not budget.left_s():
        return None
    try:
        return shadow.score(features)
    except (ValueError, IndexError, FloatingPointError) as e:
        logger.warning("the shadow ranker failed", extra={"version": shadow.version, "why": str(e)[:200]})
        return None
