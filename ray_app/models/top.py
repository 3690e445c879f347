"""The best rows of a score array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.types import Mask, Rows, Scores


def top(scores: NDArray[Any], n: int, allowed: Mask) -> tuple[Rows, Scores]:
    """At most n allowed rows with a score above 0, best first; equal scores: the smaller row first.

    scores and allowed have one length.
    """
    rows = np.flatnonzero((scores > 0) & allowed)
    found = scores[rows]
    if len(rows) > n:
        keep = np.argpartition(-found, n - 1)[:n]
        rows, found = rows[keep], found[keep]
    order = np.lexsort((rows, -found))
    return rows[order].astype(np.int32), found[order].astype(np.float32)
