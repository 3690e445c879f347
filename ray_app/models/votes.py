"""What each visitor says for each item: the sparse matrix that item CF and factors are fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np

from ray_app.types import Interactions


def votes(history: Interactions, now: int, half_life_s: float) -> Any:
    """Sparse float32 [users, rows]: the root of the weight, faded by age; of a repeated pair the strongest."""
    import scipy.sparse as sp

    say = np.sqrt(history.weights / 5.0) * np.exp2((history.at - now) / 1000.0 / half_life_s)
    order = np.argsort(say, kind="stable")[::-1]
    pairs = history.users[order].astype(np.int64) * max(1, history.n_rows) + history.rows[order]
    _, first = np.unique(pairs, return_index=True)
    keep = order[first]
    keep = keep[say[keep] > 0]  # what was refused
    shape = (history.n_users, history.n_rows)
    return sp.csr_matrix((say[keep].astype(np.float32), (history.users[keep], history.rows[keep])), shape)
