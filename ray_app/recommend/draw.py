"""Place by place: the best candidate that the limits allow, or by chance another one, with its propensity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ray_app.catalog.reranking import Exploration
from ray_app.recommend.limits import Limit
from ray_app.types import Mask, Rows, Scores


def fill(
    relevance: Scores, n: int, limits: Sequence[Limit], exploration: Exploration | None, rng: np.random.Generator | None
) -> tuple[Rows, Scores]:
    """Which of m candidates (positions int32, at most n) have the places, and the probability of each, given the places
    before it: float32 in (0, 1]. relevance float32 [m], in the order to show where nothing is drawn. A limit is broken
    only where nothing else is left. Where nothing is drawn the probability is 1.

    The propensity of candidate i is (1 - share) * [i is next in order] + share * softmax(relevance / temperature)_i
    over what the limits allow: exact, so that inverse propensity estimators of what followed hold place by place.
    """
    m, n = len(relevance), min(n, len(relevance))
    if not limits and exploration is None:
        return np.arange(n, dtype=np.int32), np.ones(n, np.float32)
    left = np.ones(m, np.bool_)
    places, said = np.empty(n, np.int32), np.ones(n, np.float32)
    for k in range(n):
        open_ = left.copy()
        for one in limits:
            open_ &= one.open()
        at = int(open_.argmax())
        if not open_[at]:
            open_, at = left.copy(), int(left.argmax())
        if exploration is not None and rng is not None:
            at, said[k] = _draw(relevance, open_, at, exploration, rng)
        places[k] = at
        left[at] = False
        for one in limits:
            one.take(at)
    return places, said


def _draw(
    relevance: Scores, open_: Mask, best: int, how: Exploration, rng: np.random.Generator
) -> tuple[int, np.float32]:
    there = np.flatnonzero(open_)
    weights = relevance[there].astype(np.float64) / how.temperature
    weights = np.exp(weights - weights.max())
    chance = how.share * weights / weights.sum()
    chance[np.searchsorted(there, best)] += 1.0 - how.share
    k = min(int(np.searchsorted(np.cumsum(chance), rng.random(), side="right")), len(there) - 1)
    return int(there[k]), np.float32(chance[k])
