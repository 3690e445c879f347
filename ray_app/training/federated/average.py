"""Federated averaging: updates clipped, weighted by rows, summed and noised (McMahan et al. 2017, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ray_app.training.federated.demand import Floats


@dataclass(frozen=True, slots=True)
class Update:
    """All that leaves a store in a round: its weights, how many rows it learned of, and its mean loss."""

    weights: Floats
    rows: int
    loss: float


@dataclass(frozen=True, slots=True)
class Privacy:
    """`clip_norm`: the longest step of one store, 0 for any. `noise_multiplier`: the noise's standard deviation by
    clip_norm, 0 for none."""

    clip_norm: float = 0.0
    noise_multiplier: float = 0.0


def clipped(step: Floats, norm: float) -> Floats:
    """`step`, no longer than `norm` (0: as it is)."""
    length = float(np.linalg.norm(step))
    return step * (norm / length) if norm and length > norm else step


def average(
    weights: Floats, updates: Sequence[Update], privacy: Privacy, expected: float, drawn: np.random.Generator
) -> Floats:
    """The next weights. Without noise: the mean of the stores' steps, weighted by rows.

    With noise every store counts alike, and the sum is divided by how many were `expected` to take part, not by how
    many did: by rows or by the number of answers one store could move the mean further than clip_norm / expected, and
    the noise would hide less than is said.
    """
    steps = [clipped(u.weights - weights, privacy.clip_norm) for u in updates]
    if not privacy.noise_multiplier:
        return weights + np.average(steps, axis=0, weights=[u.rows for u in updates])
    noise = drawn.normal(0.0, privacy.noise_multiplier * privacy.clip_norm, len(weights))
    return np.asarray(weights + (np.sum(steps, axis=0) + noise) / expected)
