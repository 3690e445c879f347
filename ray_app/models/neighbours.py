"""Item-to-item neighbours: what all channels share that know for each item the items that go with it."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.models.base import Arrays
from ray_app.models.top import none, top
from ray_app.types import Mask, Rows, Scored, Scores, Visitor

MOST_CELLS = 8_000_000  # of the dense block in which the best neighbours are picked: 64 MB
Factor = NDArray[np.float64]


class Neighbours:
    """neighbours int32 [n, k], weights float32 [n, k], 0 where an item has fewer than k. `memory_s`: the half-life
    of what a recent item says."""

    name: ClassVar[str]
    memory_s: ClassVar[float]

    def __init__(self, neighbours: NDArray[np.int32], weights: Scores) -> None:
        self._neighbours, self._weights = neighbours, weights

    def recommend(self, visitor: Visitor, n: int, allowed: Mask, pinned: Pinned) -> Scored:
        known = visitor.recent < len(self._neighbours)
        recent = visitor.recent[known]
        if not len(recent):
            return none(self.name)
        say = visitor.interest(self.memory_s)[known]
        votes = self._weights.take(recent, axis=0) * say[:, None]
        scores = np.bincount(self._neighbours.take(recent, axis=0).ravel(), votes.ravel(), minlength=len(allowed))
        return Scored(self.name, *top(scores, n, allowed))

    def nearest(self, rows: Rows, recent: Rows) -> list[int]:
        """For each row the one of `recent` that is its best neighbour, -1 where none is among its neighbours."""
        place = np.full(len(self._neighbours), -1, np.int64)
        known = recent[recent < len(place)]
        place[known] = known
        inside = np.minimum(rows, len(place) - 1)
        mine = np.where(self._weights[inside] > 0, place[self._neighbours[inside]], -1)
        best = np.argmax(mine >= 0, axis=1)  # neighbours stand best first
        found = mine[np.arange(len(rows)), best]
        return [int(r) for r in np.where(rows < len(place), found, -1)]

    def neighbours_of(self, row: int) -> tuple[Rows, Scores]:
        keep = self._weights[row] > 0
        return self._neighbours[row][keep], self._weights[row][keep]

    def empty(self) -> bool:
        """No item has any neighbour: nothing to serve."""
        return not self._weights.any()

    def prepared(self) -> Self:
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"neighbours": self._neighbours, "weights": self._weights}

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        return cls(arrays["neighbours"], arrays["weights"])


def nearest(left: Any, right: Any, source: Factor, target: Factor, most: int) -> tuple[NDArray[np.int32], Scores]:
    """For each row of the sparse product left [n, m] @ right [m, n], divided by source [n] and target [n], the `most`
    best others with their weights. Block by block: the product is never held whole."""
    n = right.shape[1]
    k = min(most, max(1, n - 1))
    neighbours, weights = np.zeros((n, k), np.int32), np.zeros((n, k), np.float32)
    step = max(1, MOST_CELLS // max(1, n))
    for first in range(0, n, step):
        block = (left[first : first + step] @ right).toarray()
        own = np.arange(first, first + len(block))
        block /= source[own][:, None] * target[None, :]
        neighbours[own], weights[own] = best(block, own, k)
    return neighbours, weights


def best(block: NDArray[Any], own: NDArray[np.int64], k: int) -> tuple[NDArray[np.int32], Scores]:
    """The k best columns of each row of `block` and their values, best first, without the row's `own` column; a value
    that is not above 0 becomes 0. `block` is written on."""
    block[np.arange(len(block)), own] = 0.0
    some = np.argpartition(-block, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(block, some, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    values = np.maximum(np.take_along_axis(found, order, 1), 0.0)
    return np.take_along_axis(some, order, 1).astype(np.int32), values.astype(np.float32)
