"""Matrix factors of implicit feedback by alternating least squares.

iALS (Hu, Koren and Volinsky, 2008) with the regularisation of Rendle et al., "Revisiting the performance of iALS on
item recommendation benchmarks" (2021), each side solved by a few steps of conjugate gradients (Takács et al., 2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.models.base import Arrays
from ray_app.models.index import Search, build, built_of
from ray_app.models.top import none
from ray_app.models.votes import votes
from ray_app.types import Interactions, Mask, Matrix, Scored, Visitor

MOST_CELLS = 4_000_000  # gathered at a time: 16 MB


HALF_LIVES: Mapping[str, float] = MappingProxyType({"weeks": 20 * 86400.0, "months": 120 * 86400.0, "years": 1e9})


@dataclass(frozen=True, slots=True)
class Fit:
    """`unseen`: the weight of a pair that nobody took, where one taken now weighs 1. `regularisation` grows with
    how much is known of a visitor or an item, to the power `frequency`. `variant`: how long a behaviour says something,
    one of HALF_LIVES."""

    size: int = 64
    rounds: int = 10
    steps: int = 3
    unseen: float = 0.05
    regularisation: float = 0.01
    frequency: float = 1.0
    variant: str = "weeks"
    seed: int = 7

    @property
    def half_life_s(self) -> float:
        return HALF_LIVES[self.variant]


class Factors:
    """items float32 [n, d]. A visitor has no vector of his own in it: whoever asks is one solve of d equations."""

    name = "factors"

    def __init__(self, items: Matrix, how: Fit = Fit(), search: Search | None = None) -> None:
        self._items, self._how, self.variant = items, how, how.variant
        self._search = search or Search(items)
        self._known = how.unseen * (items.T @ items)  # of every visitor's equations, before what he took

    @classmethod
    def fit(cls, history: Interactions, now: int, how: Fit = Fit()) -> Self:
        """As of `now` (ms). Only the strongest behaviour of a pair (user, item) counts, faded by its age."""
        taken = votes(history, now, how.half_life_s)
        drawn = np.random.default_rng(how.seed)
        users = np.zeros((history.n_users, how.size), np.float32)
        items = drawn.normal(0.0, 0.1 / np.sqrt(how.size), (history.n_rows, how.size)).astype(np.float32)
        by_item = taken.T.tocsr()
        for _ in range(how.rounds):
            users = _solved(taken, items, users, how)
            items = _solved(by_item, users, items, how)
        return cls(items, how)

    def recommend(self, visitor: Visitor, n: int, allowed: Mask, pinned: Pinned) -> Scored:
        known = visitor.recent < len(self._items)
        if not known.any():
            return none(self.name)
        say = visitor.interest(self._how.half_life_s)[known]
        who = self.vector(visitor.recent[known], say)
        rows, likes = self._search.best(who, n, allowed[: len(self._items)])
        return Scored(self.name, rows[likes > 0], likes[likes > 0])

    def vector(self, rows: NDArray[np.int32], say: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [d]: the visitor who took `rows`, each weighing `say`, whether or not he was there at the fit."""
        mine, how = self._items[rows], self._how
        much = how.regularisation * (float(say.sum()) + how.unseen * len(self._items)) ** how.frequency
        whole = self._known + (mine * say[:, None]).T @ mine + much * np.eye(mine.shape[1], dtype=np.float32)
        return np.asarray(np.linalg.solve(whole, say @ mine), np.float32)

    def empty(self) -> bool:
        return not self._items.any()

    def arrays(self) -> dict[str, NDArray[Any]]:
        numbers = [self._how.unseen, self._how.regularisation, self._how.frequency]
        of = {"items": self._items, "numbers": np.array(numbers), "variant": np.array([self.variant])}
        return {**of, **self._search.arrays()}

    def prepared(self) -> Self:
        return type(self)(self._items, self._how, Search(self._items, build(self._items)))

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        items, numbers = arrays["items"], arrays["numbers"].tolist()
        unseen, regularisation, frequency = numbers
        how = Fit(items.shape[1], unseen=unseen, regularisation=regularisation, frequency=frequency,
                  variant=str(arrays["variant"][0]))  # fmt: skip
        return cls(items, how, Search(items, built_of(arrays)))


def _solved(taken: Any, others: Matrix, mine: Matrix, how: Fit) -> Matrix:
    """`mine` [m, d] moved towards the solution for `taken` [m, k] given `others` [k, d]."""
    much = np.asarray(taken.sum(axis=1)).ravel() + how.unseen * len(others)
    ridge = (how.regularisation * much**how.frequency)[:, None].astype(np.float32)
    square = how.unseen * (others.T @ others)

    def times(x: Matrix) -> Matrix:
        return np.asarray(x @ square + ridge * x + _weighed(taken, others, x), np.float32)

    x, wanted = np.where(np.diff(taken.indptr)[:, None] > 0, mine, 0.0).astype(np.float32), taken @ others
    left = wanted - times(x)
    way, size = left.copy(), (left * left).sum(axis=1, keepdims=True)
    for _ in range(how.steps):
        moved = times(way)
        step = size / np.maximum((way * moved).sum(axis=1, keepdims=True), 1e-12)
        x += step * way
        left -= step * moved
        before, size = size, (left * left).sum(axis=1, keepdims=True)
        way = left + way * (size / np.maximum(before, 1e-12))
    return np.asarray(x, np.float32)


def _weighed(taken: Any, others: Matrix, x: Matrix) -> Matrix:
    """For each row of x the sum over what it took: weight * (other . x) * other."""
    import scipy.sparse as sp

    said = np.empty_like(taken.data)
    owner = np.repeat(np.arange(len(x)), np.diff(taken.indptr))
    step = max(1, MOST_CELLS // others.shape[1])
    for k in range(0, len(said), step):
        part = slice(k, k + step)
        said[part] = np.einsum("ij,ij->i", others[taken.indices[part]], x[owner[part]])
    return np.asarray(sp.csr_matrix((said * taken.data, taken.indices, taken.indptr), taken.shape) @ others, np.float32)
