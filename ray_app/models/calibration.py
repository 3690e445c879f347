"""Scores as probabilities: a slope and an intercept (Platt, "Probabilistic outputs for support vector machines",
1999)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.types import Scores

STEPS, LEAST_SLOPE = 50, 1e-3
RIDGE = 1e-3  # of the slope, so that labels which a threshold parts have one too
PLAIN = np.array([1.0, 0.0], np.float32)  # the logit as it is


def sigmoid(x: NDArray[Any]) -> Any:
    """Probabilities of logits, as long as `x`."""
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))


def platt(logits: NDArray[Any], labels: NDArray[Any]) -> Scores:
    """float32 [2], slope (above 0: the order stays) and intercept of the most likely probabilities, by Newton's method.

    logits and labels (0 or 1) are of equal length; without both labels the mean alone is fitted.
    """
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if not len(x):
        return PLAIN
    rate = float(np.clip(y.mean(), 1.0 / (len(y) + 2), 1 - 1.0 / (len(y) + 2)))
    if y.min() == y.max() or x.std() < 1e-9:
        return np.array([1.0, np.log(rate / (1 - rate)) - x.mean()], np.float32)
    centre, spread = x.mean(), x.std()
    design = np.stack([(x - centre) / spread, np.ones(len(x))])
    w = np.array([spread, np.log(rate / (1 - rate))])
    w[0] = min(w[0], 1.0)
    for _ in range(STEPS):
        p = sigmoid(w @ design)
        slope = design @ (p - y) + RIDGE * w * [1, 0]
        bend = (design * (p * (1 - p))) @ design.T + np.diag([RIDGE, 1e-9])
        step = np.linalg.solve(bend, slope)
        w = w - step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    a = max(w[0] / spread, LEAST_SLOPE)
    return np.array([a, w[1] - a * centre], np.float32)


def calibrated(logits: NDArray[Any], how: Scores) -> Scores:
    """Probabilities, float32 as long as `logits`."""
    return np.asarray(sigmoid(np.float64(how[0]) * logits + np.float64(how[1])), np.float32)
