"""Never empty while something is eligible: hot, then new, then any, then what was seen."""

from __future__ import annotations

import numpy as np

from ray_app.features.view import Moment
from ray_app.types import Mask, Rows


def fill(rows: Rows, n: int, allowed: Mask, moment: Moment) -> Rows:
    """Rows that complete `rows` to n: int32, only allowed ones that are not there yet; fewer when there are no more."""
    if len(rows) >= n:
        return np.zeros(0, np.int32)
    free = allowed.copy()
    free[rows] = False
    left = np.flatnonzero(free)
    order = np.lexsort((left, -moment.pinned.published_at[left], -moment.board.hot[left]))
    return left[order][: n - len(rows)].astype(np.int32)
