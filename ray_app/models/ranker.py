"""The ranker as it is served: a logistic model or a small network, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.errors import BrokenArtifact
from ray_app.models.base import Arrays
from ray_app.types import Matrix, Scores

Layer = tuple[Matrix, Scores]


class DenseRanker:
    """Standardised features, then layers (weight float32 [in, out], bias float32 [out]) with ReLU between them."""

    def __init__(self, version: str, names: Sequence[str], centre: Scores, spread: Scores, layers: list[Layer]) -> None:
        self.version, self.names = version, tuple(names)
        self._centre, self._spread, self._layers = centre, spread, layers

    def score(self, features: Matrix) -> Scores:
        """features float32 [n, len(names)] -> float32 [n], higher is better."""
        x: Any = (features - self._centre) / self._spread
        for k, (weight, bias) in enumerate(self._layers):
            x = x @ weight + bias
            if k < len(self._layers) - 1:
                x = np.maximum(x, 0.0)
        return np.asarray(x[:, 0], np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        saved: dict[str, NDArray[Any]] = {"centre": self._centre, "spread": self._spread}
        for k, (weight, bias) in enumerate(self._layers):
            saved[f"weight{k}"], saved[f"bias{k}"] = weight, bias
        return saved

    @classmethod
    def load(cls, version: str, names: Sequence[str], wanted: Sequence[str], arrays: Arrays) -> DenseRanker:
        """Raises BrokenArtifact when the version was trained on other features than `wanted`, those of the view."""
        if tuple(names) != tuple(wanted):
            raise BrokenArtifact(
                f"ranker {version} was trained on features {list(names)}; the view gives {list(wanted)}. Train again",
                version=version,
            )
        layers = [(arrays[f"weight{k}"], arrays[f"bias{k}"]) for k in range(len(arrays) // 2 - 1)]
        return cls(version, names, arrays["centre"], arrays["spread"], layers)
