"""The listwise ranker as it is served: a small network over the features alone, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.expression import TASKS
from ray_app.models.base import Arrays, Scene
from ray_app.models.calibration import PLAIN, calibrated
from ray_app.types import Matrix, Scores

Layer = tuple[Matrix, Scores]


class Listwise:
    """Standardised features, then layers (weight float32 [in, out], bias float32 [out]) with ReLU between them.

    A missing feature counts as its mean. `calibration` makes a probability of a click of the score.
    """

    kind = "listwise"

    def __init__(
        self, version: str, centre: Scores, spread: Scores, layers: list[Layer], calibration: Scores = PLAIN
    ) -> None:
        self.version, self.calibration = version, calibration
        self._centre, self._spread, self._layers = centre, spread, layers

    def logits(self, scene: Scene) -> Scores:
        """float32 [n], higher is better."""
        x: Any = np.nan_to_num((scene.features - self._centre) / self._spread)
        for k, (weight, bias) in enumerate(self._layers):
            x = x @ weight + bias
            if k < len(self._layers) - 1:
                x = np.maximum(x, 0.0)
        return np.asarray(x[:, 0], np.float32)

    def predict(self, scene: Scene) -> Matrix:
        found = np.zeros((len(scene.features), len(TASKS)), np.float32)
        found[:, 0] = calibrated(self.logits(scene), self.calibration)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        saved = {"centre": self._centre, "spread": self._spread, "calibration": self.calibration}
        for k, (weight, bias) in enumerate(self._layers):
            saved[f"weight{k}"], saved[f"bias{k}"] = weight, bias
        return saved

    @classmethod
    def load(cls, version: str, names: Sequence[str], arrays: Arrays) -> Listwise:
        layers = [(arrays[f"weight{k}"], arrays[f"bias{k}"]) for k in range(len(arrays) // 2 - 1)]
        return cls(version, arrays["centre"], arrays["spread"], layers, arrays["calibration"])
