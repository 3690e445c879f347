"""Item-to-item collaborative filtering from what the same visitors took, in several variants of one class.

`cosine`: with an asymmetric norm (Deshpande and Karypis, "Item-based top-N recommendation algorithms", 2004), where a
visitor's vote is shared among the items taken. `iuf`: a visitor of many items says less (Breese et al., 1998).
`rp3beta`: a random walk of three steps that popularity draws less (Paudel et al., 2017). `ease`: a linear model
without the item itself (Steck, 2019), for catalogues of which a dense square can be inverted. In each a vote fades
with its age.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ray_app.models.base import Arrays
from ray_app.models.neighbours import Neighbours, best, likeness, nearest
from ray_app.models.product import Product
from ray_app.models.votes import votes
from ray_app.types import Interactions, Scores

MOST_DENSE = 8000  # rows of a catalogue for which EASE is fitted: a square of 256 MB
LEAST = 1e-12
USUAL = "cosine of weeks"


@dataclass(frozen=True, slots=True)
class Fit:
    """`form`: one of FORMS. `source_norm`: the share of the norm that falls on the item owned; the rest falls on the
    neighbour. `against`: how much popularity speaks against a neighbour in rp3beta. `ridge`: of EASE."""

    form: str = "cosine"
    neighbours: int = 200
    half_life_s: float = 20 * 86400.0
    source_norm: float = 0.6
    against: float = 0.3
    ridge: float = 200.0


class ItemCF(Neighbours):
    """`variant`: the name of how its neighbours were found."""

    name = "item_cf"
    memory_s = 60 * 86400.0

    def __init__(self, neighbours: NDArray[np.int32], weights: Scores, variant: str = USUAL) -> None:
        super().__init__(neighbours, weights)
        self.variant = variant

    @classmethod
    def fit(cls, history: Interactions, now: int, how: Fit = Fit(), variant: str = USUAL) -> Self:
        """Neighbours as of `now` (ms). Only the strongest behaviour of a pair (user, item) counts."""
        alike = product(history, now, how)
        found = _ease(_taken(history, now, how), how) if alike is None else nearest(alike, how.neighbours)
        return cls(*found, variant)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**super().arrays(), "variant": np.array([self.variant])}

    @classmethod
    def load(cls, arrays: Arrays) -> Self:
        return cls(arrays["neighbours"], arrays["weights"], str(arrays["variant"][0]) if "variant" in arrays else USUAL)


def product(history: Interactions, now: int, how: Fit) -> Product | None:
    """How much each item is like each other one, where that is a product of two sparse matrices."""
    form = FORMS[how.form]
    return form(_taken(history, now, how), how) if form else None


def _taken(history: Interactions, now: int, how: Fit) -> Any:
    return votes(history, now, how.half_life_s).astype(np.float64)


def _cosine(taken: Any, how: Fit) -> Product:
    much = np.asarray(taken.sum(axis=1)).ravel()
    return _alike(taken, 1.0 / np.sqrt(np.maximum(much, 1.0)), how)


def _iuf(taken: Any, how: Fit) -> Product:
    return _alike(taken, np.log1p(taken.shape[1] / np.maximum(np.diff(taken.indptr), 1)), how)


def _alike(taken: Any, says: NDArray[np.float64], how: Fit) -> Product:
    """Cosine of the columns, each visitor's row weighed by what it `says`."""
    import scipy.sparse as sp

    taken = (sp.diags(says) @ taken).tocsr()
    size = np.maximum(np.asarray(taken.multiply(taken).sum(axis=0)).ravel(), LEAST)
    return likeness(taken.T.tocsr(), taken, size**how.source_norm, size ** (1 - how.source_norm))


def _rp3beta(taken: Any, how: Fit) -> Product:
    import scipy.sparse as sp

    of_users = np.maximum(np.asarray(taken.sum(axis=1)).ravel(), LEAST)
    of_items = np.maximum(np.asarray(taken.sum(axis=0)).ravel(), LEAST)
    onward = (sp.diags(1.0 / of_users) @ taken).tocsr()
    return likeness(taken.T.tocsr(), onward, of_items, of_items**how.against)


def _ease(taken: Any, how: Fit) -> tuple[NDArray[np.int32], Scores]:
    """Over the items that somebody took: the others have no neighbours."""
    from scipy.linalg import lapack

    some = np.flatnonzero(np.diff(taken.tocsc().indptr)).astype(np.int32)
    n, k = taken.shape[1], min(how.neighbours, max(1, taken.shape[1] - 1))
    neighbours, weights = np.zeros((n, k), np.int32), np.zeros((n, k), np.float32)
    if not len(some):
        return neighbours, weights
    mine = taken[:, some]
    square = (mine.T @ mine).toarray().astype(np.float32)
    square[np.diag_indices_from(square)] += how.ridge
    factor, _ = lapack.spotrf(square, lower=1, overwrite_a=1)
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    inverse /= -np.diag(inverse)[None, :]
    few = min(k, max(1, len(some) - 1))
    found, weights[some, :few] = best(inverse, np.arange(len(some)), few)
    neighbours[some, :few] = some[found]
    return neighbours, weights


FORMS: Mapping[str, Callable[[Any, Fit], Product] | None] = MappingProxyType(
    {"cosine": _cosine, "iuf": _iuf, "rp3beta": _rp3beta, "ease": None}
)
VARIANTS: Mapping[str, Fit] = MappingProxyType(
    {
        f"{form} of {of}": Fit(form, half_life_s=half_life_s)
        for form in FORMS
        for of, half_life_s in (("weeks", 20 * 86400.0), ("years", 1e9))
    }
)


def variants(taken: int) -> tuple[str, ...]:
    """Those with which a history can be fitted in which so many items were taken."""
    return tuple(name for name, how in VARIANTS.items() if how.form != "ease" or taken <= MOST_DENSE)
