"""Item-to-item collaborative filtering from what the same visitors took.

Cosine with an asymmetric norm (Deshpande and Karypis, "Item-based top-N recommendation algorithms", 2004), where a
visitor's vote is shared among the items taken and fades with its age.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.base import Arrays
from ray_app.models.product import Product, nearest
from ray_app.models.top import top
from ray_app.types import Interactions, Mask, Rows, Scored, Scores, Visitor


@dataclass(frozen=True, slots=True)
class Fit:
    """`source_norm`: the share of the norm that falls on the item owned; the rest falls on the neighbour."""

    neighbours: int = 200
    half_life_s: float = 20 * 86400.0
    source_norm: float = 0.6

    def most(self, n: int) -> int:
        """Neighbours of each of n items."""
        return min(self.neighbours, max(1, n - 1))


class ItemCF:
    """neighbours int32 [n, k], weights float32 [n, k], 0 where an item has fewer than k."""

    name = "item_cf"
    memory_s = 60 * 86400.0

    def __init__(self, neighbours: NDArray[np.int32], weights: Scores) -> None:
        self._neighbours, self._weights = neighbours, weights

    @classmethod
    def fit(cls, history: Interactions, now: int, how: Fit = Fit()) -> ItemCF:
        """Neighbours as of `now` (ms). Only the newest behaviour of a pair (user, item) counts."""
        return cls(*nearest(likeness(history, now, how), how.most(history.n_rows)))

    def recommend(self, visitor: Visitor, n: int, allowed: Mask) -> Scored:
        known = visitor.recent < len(self._neighbours)
        recent = visitor.recent[known]
        if not len(recent):
            return Scored(self.name, np.zeros(0, np.int32), np.zeros(0, np.float32))
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

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"neighbours": self._neighbours, "weights": self._weights}

    @classmethod
    def load(cls, arrays: Arrays) -> ItemCF:
        return cls(arrays["neighbours"], arrays["weights"])


def likeness(history: Interactions, now: int, how: Fit = Fit()) -> Product:
    """How much each item is like each other one, as of `now` (ms)."""
    import scipy.sparse as sp

    decay = np.sqrt(history.weights / 5.0) * np.exp2((history.at - now) / 1000.0 / how.half_life_s)
    votes = sp.csr_matrix((decay, (history.users, history.rows)), (history.n_users, history.n_rows))
    votes.sum_duplicates()
    votes.data = np.minimum(votes.data, 1.0)
    votes.eliminate_zeros()  # what was refused
    share = 1.0 / np.sqrt(np.maximum(np.asarray(votes.sum(axis=1)).ravel(), 1.0))
    votes = (sp.diags(share) @ votes).tocsr()
    size = np.maximum(np.asarray(votes.multiply(votes).sum(axis=0)).ravel(), 1e-12)
    left = (sp.diags(size**-how.source_norm) @ votes.T).tocsr()
    right = (votes @ sp.diags(size ** (how.source_norm - 1))).tocsr()
    return Product(left.astype(np.float32), right.astype(np.float32))
