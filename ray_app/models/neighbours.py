"""Item-to-item neighbours: what all channels share that know for each item the items that go with it."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.models import product
from ray_app.models.base import Arrays
from ray_app.models.product import Product
from ray_app.models.top import none, top
from ray_app.types import Mask, Rows, Scored, Scores, Visitor

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


def likeness(left: Any, right: Any, source: Factor, target: Factor) -> Product:
    """How much row i of left [n, m] is like column j of right [m, n]: their product over source[i] and target[j]."""
    import scipy.sparse as sp

    of = (sp.diags(1.0 / source) @ left).tocsr()
    to = (right @ sp.diags(1.0 / target)).tocsr()
    return Product(of.astype(np.float32), to.astype(np.float32))


def nearest(alike: Product, most: int) -> tuple[NDArray[np.int32], Scores]:
    """For each item the `most` others that are most like it, with their weights."""
    return product.nearest(alike, least(most, alike.n))


def least(most: int, n: int) -> int:
    """Neighbours of each of n items."""
    return min(most, max(1, n - 1))


def best(block: NDArray[Any], own: NDArray[np.int64], k: int) -> tuple[NDArray[np.int32], Scores]:
    """The k best columns of each row of `block` and their values, best first, without the row's `own` column; a value
    that is not above 0 becomes 0. `block` is written on."""
    block[np.arange(len(block)), own] = 0.0
    some = np.argpartition(-block, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(block, some, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    values = np.maximum(np.take_along_axis(found, order, 1), 0.0)
    return np.take_along_axis(some, order, 1).astype(np.int32), values.astype(np.float32)
