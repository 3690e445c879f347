"""Popularity as a ranker: the merged score lifted by the logarithm of the last week's sum. It ranks before the first
training, and stands beside every trained ranker as the bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.expression import TASKS
from ray_app.models.base import Arrays, Scene
from ray_app.models.calibration import PLAIN, calibrated
from ray_app.types import Matrix, Scores

MERGED, WEEK = "merged", "hot_7d"


class Popularity:
    """`calibration` float32 [2]: what makes a probability of a click of the logarithm."""

    kind = "popularity"

    def __init__(self, version: str, names: Sequence[str], calibration: Scores = PLAIN) -> None:
        self.version, self.calibration = version, calibration
        self._merged, self._week = names.index(MERGED), names.index(WEEK)

    def lifted(self, scene: Scene) -> Scores:
        """float32 [n]: the merged score as its feature is scaled, lifted."""
        merged, week = (np.nan_to_num(scene.features[:, k]) for k in (self._merged, self._week))
        return np.asarray(merged * (1.0 + week), np.float32)

    def logits(self, scene: Scene) -> Scores:
        """float32 [n]."""
        return np.log(np.maximum(self.lifted(scene), np.float32(1e-9)))

    def predict(self, scene: Scene) -> Matrix:
        found = np.zeros((len(scene.features), len(TASKS)), np.float32)
        found[:, 0] = calibrated(self.logits(scene), self.calibration)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"calibration": self.calibration}

    @classmethod
    def load(cls, version: str, names: Sequence[str], arrays: Arrays) -> Popularity:
        return cls(version, names, arrays["calibration"])
