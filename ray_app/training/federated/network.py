"""The model of demand: one hidden layer beside a linear part, in numpy; it forecasts the median of log(1 + quantity).

Its weights are one vector, so that they can be averaged, clipped and noised as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_app.training.federated.demand import FEATURES, MIDDLE, WIDTH, Floats, Rows

HIDDEN = 12
SHAPES = {
    "hidden": (len(FEATURES), HIDDEN), "hidden_bias": (HIDDEN,), "out": (HIDDEN,), "linear": (len(FEATURES),),
    "bias": (1,),
}  # fmt: skip
SIZE = sum(int(np.prod(shape)) for shape in SHAPES.values())
STEPS = 32  # of an epoch, in every store: by batches of one size a large store would walk further than a small one
LEAST_BATCH = 8
MOMENTUM = 0.9
DELTA = 0.2  # of Huber's loss: an error above it counts by its size, as in WAPE


@dataclass(frozen=True, slots=True)
class Steps:
    """How a fit walks: over all rows `epochs` times, at `rate`; `seed` orders the rows."""

    epochs: int
    rate: float
    seed: int


def parts(weights: Floats) -> dict[str, Floats]:
    """The arrays of the vector `weights`, views of it."""
    found, at = {}, 0
    for name, shape in SHAPES.items():
        n = int(np.prod(shape))
        found[name], at = weights[at : at + n].reshape(shape), at + n
    return found


def whole(arrays: Mapping[str, Any]) -> Floats:
    """The vector of `parts`."""
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in SHAPES])


def first(seed: int) -> Floats:
    """Before the first round: what was sold lately, smoothed."""
    weights = np.zeros(SIZE)
    p = parts(weights)
    p["hidden"][:] = np.random.default_rng(seed).normal(0, len(FEATURES) ** -0.5, SHAPES["hidden"])
    p["linear"][0], p["bias"][0] = WIDTH, MIDDLE
    return weights


def forecast(weights: Floats, known: Floats) -> Floats:
    """Quantities, at least 0: float64 [n]."""
    return np.asarray(np.expm1(np.maximum(_out(parts(weights), known)[1], 0.0)))


def fit(weights: Floats, rows: Rows, steps: Steps) -> tuple[Floats, float]:
    """New weights, and the mean loss of the last epoch."""
    weights, target = weights.copy(), np.log1p(rows.sold)
    speed, drawn = np.zeros_like(weights), np.random.default_rng(steps.seed)
    batch, loss = max(LEAST_BATCH, -(-len(rows) // STEPS)), 0.0
    for _ in range(steps.epochs):
        order, loss = drawn.permutation(len(rows)), 0.0
        for k in range(0, len(rows), batch):
            mine = order[k : k + batch]
            found, gradient = _gradient(weights, rows.known[mine], target[mine])
            speed = MOMENTUM * speed + gradient
            weights -= steps.rate * speed
            loss += found * len(mine) / len(rows)
    return weights, loss


def _out(p: Mapping[str, Floats], known: Floats) -> tuple[Floats, Floats]:
    hidden = np.tanh(known @ p["hidden"] + p["hidden_bias"])
    return hidden, hidden @ p["out"] + known @ p["linear"] + p["bias"][0]


def _gradient(weights: Floats, known: Floats, target: Floats) -> tuple[float, Floats]:
    p = parts(weights)
    hidden, out = _out(p, known)
    error = out - target
    slope = np.clip(error / DELTA, -1, 1) / len(target)
    inner = np.outer(slope, p["out"]) * (1 - hidden * hidden)
    small = np.abs(error) < DELTA
    loss = np.where(small, error * error / (2 * DELTA), np.abs(error) - DELTA / 2).mean()
    gradients = {"hidden": known.T @ inner, "hidden_bias": inner.sum(axis=0), "out": hidden.T @ slope,
                 "linear": known.T @ slope, "bias": slope.sum(keepdims=True)}  # fmt: skip
    return float(loss), whole(gradients)
