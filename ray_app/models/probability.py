"""Figures of predicted probabilities: AUC, GAUC, log loss and calibration, each over visitors that may be weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.interval import Weights

TINY = 1e-7


@dataclass(frozen=True)
class Predicted:
    """predicted, labels (0 or 1) and visitors (numbers below `count`) of equal length, one a line that was shown."""

    predicted: NDArray[Any]
    labels: NDArray[Any]
    visitors: NDArray[np.int64]
    count: int

    def even(self) -> Weights:
        """Every visitor once."""
        return np.ones(self.count)

    @cached_property
    def _ordered(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Visitors and labels by prediction, the lowest first, and where each run of equal predictions begins."""
        order = np.argsort(self.predicted, kind="stable")
        ties = np.flatnonzero(np.diff(self.predicted[order], prepend=np.nan) != 0)
        return self.visitors[order], self.labels[order].astype(np.float64), ties

    def auc(self, weights: Weights) -> float:
        """Share of pairs (a 1 and a 0) in the right order, ties half; NaN without both labels."""
        if not len(self.labels):
            return float("nan")
        who, labels, ties = self._ordered
        w = weights[who]
        ones, every = np.add.reduceat(w * labels, ties), np.add.reduceat(w, ties)
        zeros = every - ones
        below = np.cumsum(zeros) - zeros
        pairs = ones.sum() * zeros.sum()
        return float((ones * (below + zeros / 2)).sum() / pairs) if pairs else float("nan")

    @cached_property
    def of_each(self) -> NDArray[np.float64]:
        """AUC within each visitor; NaN where all labels are the same."""
        if not len(self.labels):
            return np.full(self.count, np.nan)
        order = np.lexsort((self.predicted, self.visitors))
        who, y, p = self.visitors[order], self.labels[order].astype(np.float64), self.predicted[order]
        new = (np.diff(who, prepend=-1) != 0) | (np.diff(p, prepend=np.nan) != 0)
        ties = np.flatnonzero(new)
        ones, every = np.add.reduceat(y, ties), np.diff(np.append(ties, len(y)))
        zeros, owner = every - ones, who[ties]
        run = np.cumsum(zeros) - zeros
        starts = np.flatnonzero(np.diff(owner, prepend=-1) != 0)
        below = run - np.repeat(run[starts], np.diff(np.append(starts, len(owner))))
        right = np.bincount(owner, ones * (below + zeros / 2), self.count)
        pairs = np.bincount(owner, ones, self.count) * np.bincount(owner, zeros, self.count)
        return np.where(pairs > 0, right / np.maximum(pairs, 1.0), np.nan)

    @cached_property
    def shown(self) -> NDArray[np.float64]:
        """Lines of each visitor."""
        return np.bincount(self.visitors, minlength=self.count).astype(np.float64)

    def gauc(self, weights: Weights) -> float:
        """Mean AUC within each visitor by lines shown (Zhu et al., "Optimized cost per click", 2017)."""
        there = ~np.isnan(self.of_each)
        w = (weights * self.shown)[there]
        return float(w @ self.of_each[there] / w.sum()) if w.sum() else float("nan")

    @cached_property
    def _sums(self) -> dict[str, NDArray[np.float64]]:
        """By visitor: what was lost, predicted, and happened."""
        p = np.clip(self.predicted.astype(np.float64), TINY, 1 - TINY)
        lost = -(self.labels * np.log(p) + (1 - self.labels) * np.log(1 - p))
        each = {"lost": lost, "predicted": self.predicted, "happened": self.labels}
        return {name: np.bincount(self.visitors, part, self.count).astype(np.float64) for name, part in each.items()}

    def log_loss(self, weights: Weights) -> float:
        return _share(float(weights @ self._sums["lost"]), float(weights @ self.shown))

    def calibration(self, weights: Weights) -> float:
        """Predicted over what happened; 1 is right, NaN when nothing happened."""
        return _share(float(weights @ self._sums["predicted"]), float(weights @ self._sums["happened"]))

    def figures(self) -> dict[str, Callable[[Weights], float]]:
        return {"auc": self.auc, "gauc": self.gauc, "log_loss": self.log_loss, "calibration": self.calibration}


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
