"""Trees and the network of three tasks together: the mean of what both say of a click, in logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.expression import TASKS
from ray_app.models.base import Arrays, Ranker, Scene, predict_many
from ray_app.models.calibration import PLAIN, calibrated
from ray_app.models.multitask import MultiTask
from ray_app.models.trees import Trees
from ray_app.types import Matrix, Scores

PARTS: Mapping[str, Callable[[str, Sequence[str], Arrays], Trees | MultiTask]] = {
    "trees": Trees.load, "network": MultiTask.load,
}  # fmt: skip


class Blend:
    """Both are calibrated by themselves, so that their logits are of one scale. What comes after a click is the mean of
    those that have learned it."""

    kind = "blend"

    def __init__(self, version: str, trees: Ranker, network: Ranker, calibration: Scores = PLAIN) -> None:
        self.version, self.calibration = version, calibration
        self._parts = {"trees": trees, "network": network}

    def over(self, move: Callable[[Ranker], Ranker]) -> Blend:
        """The same of its parts where `move` brings them."""
        trees, network = map(move, self._parts.values())
        return Blend(self.version, trees, network, self.calibration)

    def logits(self, scene: Scene) -> Scores:
        """float32 [n], of a click."""
        return _logits([p.predict(scene)[:, 0] for p in self._parts.values()])

    def predict(self, scene: Scene) -> Matrix:
        return self._mean([p.predict(scene) for p in self._parts.values()])

    def predict_many(self, scenes: Sequence[Scene]) -> list[Matrix]:
        parts = [predict_many(p, scenes) for p in self._parts.values()]
        return [self._mean(said) for said in zip(*parts, strict=True)]

    def _mean(self, said: Sequence[Matrix]) -> Matrix:
        found = np.zeros((len(said[0]), len(TASKS)), np.float32)
        found[:, 0] = calibrated(_logits([s[:, 0] for s in said]), self.calibration)
        for task in range(1, len(TASKS)):
            learned = [s[:, task] for s in said if s[:, task].any()]
            if learned:
                found[:, task] = np.mean(learned, axis=0)
        return found

    def arrays(self) -> dict[str, NDArray[Any] | bytes]:
        parts = {f"{name}.{k}": v for name, part in self._parts.items() for k, v in part.arrays().items()}
        return {**parts, "calibration": self.calibration}

    @classmethod
    def load(cls, version: str, names: Sequence[str], arrays: Arrays) -> Blend:
        """Raises BrokenArtifact as Trees does."""
        found: dict[str, Any] = {}
        for name, make in PARTS.items():
            mine = {k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")}
            found[name] = make(version, names, mine)
        return cls(version, found["trees"], found["network"], arrays["calibration"])


def _logits(clicks: Sequence[Scores]) -> Scores:
    """The mean of the logits of equally long probabilities."""
    p = np.clip(np.asarray(clicks, np.float64), 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1 - p)).mean(axis=0), np.float32)
