"""How far a figure would move on other visitors: the bootstrap (Efron, 1979), whole visitors drawn with replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIMES, SHARE = 200, 0.95
Weights = NDArray[np.float64]


def interval(
    figure: Callable[[Weights], float],
    visitors: int,
    seed: int = 0,
    times: int = TIMES,
    share: float = SHARE,
    centred: bool = False,
) -> tuple[float, float]:
    """Lowest and highest of the middle `share` of the figure over `times` draws. `centred`: moved so that the draws'
    mean is the figure of every visitor once, for what falls or rises when visitors repeat, as coverage does.

    `figure` takes how often each visitor was drawn, float64 [visitors]; draws of which it makes NaN are left out, and
    without any other (NaN, NaN) is the answer.
    """
    drawn = np.random.default_rng(seed)
    found = [figure(drawn.multinomial(visitors, np.full(visitors, 1 / visitors)).astype(np.float64))
             for _ in range(times if visitors else 0)]  # fmt: skip
    known = [f for f in found if not np.isnan(f)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - share) / 2, (1 + share) / 2])
    moved = figure(np.ones(visitors)) - float(np.mean(known)) if centred else 0.0
    return float(low) + moved, float(high) + moved


def mean(values: NDArray[Any]) -> Callable[[Weights], float]:
    """The weighted mean of one value a visitor, NaN where a visitor has none."""
    there = ~np.isnan(values)
    return lambda w: float((w[there] @ values[there]) / w[there].sum()) if w[there].sum() else float("nan")
