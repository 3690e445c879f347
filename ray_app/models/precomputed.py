"""Lists that a job made beforehand, by visitor: for who comes back, whatever it cost to make them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.models.base import Arrays
from ray_app.models.top import none
from ray_app.types import Mask, Matrix, Scored, Visitor


class Precomputed:
    """visitors uint64 [v] ascending: a hash of each name; rows int32 and scores float32 [v, k], best first, score 0
    where a visitor has fewer than k. Mapped from disk, so that a node holds only the lists that were asked for."""

    name, variant = "precomputed", "lists"

    def __init__(self, visitors: NDArray[np.uint64], rows: NDArray[np.int32], scores: Matrix) -> None:
        self._visitors, self._rows, self._scores = visitors, rows, scores

    @classmethod
    def fit(cls, lists: Mapping[str, Scored]) -> Self:
        """From the lists by visitor, as `Visitor.name` says it."""
        named = sorted((_number(name), found) for name, found in lists.items())
        most = max((len(found.rows) for _, found in named), default=0)
        rows, scores = np.zeros((len(named), most), np.int32), np.zeros((len(named), most), np.float32)
        for k, (_, found) in enumerate(named):
            rows[k, : len(found.rows)], scores[k, : len(found.rows)] = found.rows, found.scores
        return cls(np.array([number for number, _ in named], np.uint64), rows, scores)

    def recommend(self, visitor: Visitor, n: int, allowed: Mask, pinned: Pinned) -> Scored:
        """Nothing for a visitor who has no list."""
        number = _number(visitor.name)
        k = int(np.searchsorted(self._visitors, np.uint64(number)))
        if k == len(self._visitors) or int(self._visitors[k]) != number:
            return none(self.name)
        rows, scores = self._rows[k], self._scores[k]
        keep = (scores > 0) & (rows < len(allowed))
        keep[keep] = allowed[rows[keep]]
        return Scored(self.name, np.array(rows[keep][:n]), np.array(scores[keep][:n]))

    def empty(self) -> bool:
        return not self._scores.any()

    def prepared(self) -> Self:
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"visitors": self._visitors, "rows": self._rows, "scores": self._scores}

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        return cls(arrays["visitors"], arrays["rows"], arrays["scores"])


def _number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
