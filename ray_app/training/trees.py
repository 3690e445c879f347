"""Fit gradient-boosted trees, one model a task, by LightGBM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_app.models.trees import Trees
from ray_app.training.groups import Groups

LEAST_POSITIVES = 20


@dataclass(frozen=True, slots=True)
class Forest:
    """Of each task: `rounds` trees with at most so many `leaves`, none of which has fewer examples than said."""

    rounds: int = 60
    leaves: int = 15
    least_in_leaf: int = 100
    learning_rate: float = 0.1
    seed: int = 7


def fit(data: Groups, version: str, how: Forest = Forest()) -> Trees:
    """Raises ValueError when nothing was clicked, or everything, and where LightGBM is not installed."""
    try:
        import lightgbm
    except ImportError:
        raise ValueError("LightGBM is not installed: pip install 'lemo[trees]'") from None
    features, labels = data.features[data.there], data.labels[data.there]
    clicked = labels[:, 0] > 0
    if not len(clicked) or clicked.all() or not clicked.any():
        raise ValueError(f"of {len(clicked)} candidates none was taken, or all: there is nothing to learn from")

    def grow(objective: str, x: Any, y: Any) -> Any:
        about = {
            "objective": objective, "num_leaves": how.leaves, "min_data_in_leaf": how.least_in_leaf,
            "learning_rate": how.learning_rate, "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1,
            "seed": how.seed, "deterministic": True, "num_threads": 1, "verbose": -1,
        }  # fmt: skip
        return lightgbm.train(about, lightgbm.Dataset(x, y), how.rounds)

    found = {"click": grow("binary", features, clicked)}
    converted = labels[clicked, 1] > 0
    if converted.sum() >= LEAST_POSITIVES and not converted.all():
        found["convert"] = grow("binary", features[clicked], converted)
    if (labels[:, 2] > 0).sum() >= LEAST_POSITIVES:
        found["watch"] = grow("poisson", features, np.maximum(labels[:, 2], 0.0))
    return Trees(version, found)
