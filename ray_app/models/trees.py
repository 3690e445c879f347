"""Gradient-boosted trees by LightGBM (Ke et al., 2017), one model a task; its own text format is what is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.expression import TASKS
from ray_app.models.base import Arrays, Scene, parted
from ray_app.models.calibration import PLAIN, calibrated
from ray_app.types import Matrix, Scores

if TYPE_CHECKING:
    from lightgbm import Booster


class Trees:
    """`boosters` by task, each giving logits, watch the logarithm of the time in s. A missing feature is a branch."""

    kind = "trees"

    def __init__(self, version: str, boosters: dict[str, Booster], calibration: Scores = PLAIN) -> None:
        self.version, self.calibration, self._boosters = version, calibration, boosters

    def logits(self, scene: Scene) -> Scores:
        """float32 [n], of a click."""
        return self._raw("click", scene.features)

    def predict(self, scene: Scene) -> Matrix:
        return self._said(scene.features)

    def predict_many(self, scenes: Sequence[Scene]) -> list[Matrix]:
        return parted(self._said(np.concatenate([s.features for s in scenes])), scenes)

    def _said(self, features: Matrix) -> Matrix:
        found = np.zeros((len(features), len(TASKS)), np.float32)
        if not len(found):
            return found
        found[:, 0] = calibrated(self._raw("click", features), self.calibration)
        if "convert" in self._boosters:
            found[:, 1] = calibrated(self._raw("convert", features), PLAIN)
        if "watch" in self._boosters:
            found[:, 2] = np.exp(np.minimum(self._raw("watch", features), 20.0))
        return found

    def _raw(self, task: str, features: Matrix) -> Scores:
        if not len(features):
            return np.zeros(0, np.float32)
        return np.asarray(self._boosters[task].predict(features, raw_score=True, num_threads=1), np.float32)

    def arrays(self) -> dict[str, NDArray[Any] | bytes]:
        texts = {f"{task}.txt": b.model_to_string().encode() for task, b in self._boosters.items()}
        return {**texts, "calibration": self.calibration}

    @classmethod
    def load(cls, version: str, names: Sequence[str], arrays: Arrays) -> Trees:
        """Raises BrokenArtifact where the package is missing, and for a text that LightGBM does not read."""
        from ray_app.errors import BrokenArtifact

        found: Mapping[str, Any] = arrays
        try:
            from lightgbm import Booster
            from lightgbm.basic import LightGBMError
        except ImportError:
            raise BrokenArtifact(
                f"ranker {version} needs LightGBM, which is not installed. Install it: pip install 'lemo[trees]'"
            ) from None
        try:
            boosters = {t: Booster(model_str=_text(found[f"{t}.txt"])) for t in TASKS if f"{t}.txt" in found}
        except (LightGBMError, UnicodeDecodeError) as e:
            raise BrokenArtifact(f"ranker {version}: LightGBM does not read it: {e}. Train again") from None
        if not all(b.num_feature() == len(names) for b in boosters.values()):
            raise BrokenArtifact(f"ranker {version}: its trees are not of {len(names)} features. Train again")
        return cls(version, boosters, arrays["calibration"])


def _text(part: Path | bytes) -> str:
    """As it was saved: a file of the registry, or what `arrays` gave."""
    return part.decode() if isinstance(part, bytes) else part.read_text()
