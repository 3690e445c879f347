"""Co-visitation: items that the same visitor took within one session, in this order or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ray_app.models.neighbours import Neighbours, likeness, nearest
from ray_app.models.product import Product
from ray_app.types import Interactions

LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Fit:
    """A session ends where nothing came for `gap_s`. `against`: how much popularity speaks against a neighbour, from
    0, which counts pairs, to 1."""

    gap_s: float = 1800.0
    half_life_s: float = 60 * 86400.0
    against: float = 0.3
    neighbours: int = 100


class Covisit(Neighbours):
    """What goes with what the visitor is at: the session that is on says more than those of another day."""

    name, variant = "covisit", "sessions"
    memory_s = 7 * 86400.0

    @classmethod
    def fit(cls, history: Interactions, now: int, how: Fit = Fit()) -> Self:
        """As of `now` (ms)."""
        return cls(*nearest(product(history, now, how), how.neighbours))


def product(history: Interactions, now: int, how: Fit = Fit()) -> Product:
    """How much each item goes with each other one, as of `now` (ms). A session's pairs share one vote, so that a long
    one says no more than a short one."""
    import scipy.sparse as sp

    session, n = sessions(history, how.gap_s)
    say = np.sqrt(history.weights / 5.0) * np.exp2((history.at - now) / 1000.0 / how.half_life_s)
    votes = sp.csr_matrix((say, (session, history.rows)), (n, history.n_rows))
    votes.sum_duplicates()
    votes.data = np.minimum(votes.data, 1.0)
    votes.eliminate_zeros()  # what was refused
    share = 1.0 / np.sqrt(np.maximum(np.diff(votes.indptr), 1))
    votes = (sp.diags(share) @ votes).tocsr()
    much = np.maximum(np.asarray(votes.sum(axis=0)).ravel(), LEAST)
    return likeness(votes.T.tocsr(), votes, much ** (1 - how.against), much**how.against)


def sessions(history: Interactions, gap_s: float) -> tuple[NDArray[np.int64], int]:
    """The number of each behaviour's session, and how many there are."""
    order = np.lexsort((history.at, history.users))
    new_user = np.diff(history.users[order], prepend=-1) != 0
    late = np.diff(history.at[order], prepend=0) > gap_s * 1000
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new_user | late) - 1
    return number, int(number.max()) + 1 if len(number) else 0
