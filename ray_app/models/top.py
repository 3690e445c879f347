"""The best rows of a score array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.types import Mask, Rows, Scored, Scores


def first(order: Rows, n: int, allowed: Mask) -> Rows:
    """The first n allowed rows of `order`, int32; fewer when there are no more."""
    near = order[: 4 * n]
    found = near[allowed[near]]
    return (found if len(found) >= n else order[allowed[order]])[:n]


def top(scores: NDArray[Any], n: int, allowed: Mask) -> tuple[Rows, Scores]:
    """At most n allowed rows with a score above 0, best first; equal scores: the smaller row first.

    scores and allowed have one length.
    """
    rows = np.flatnonzero((scores > 0) & allowed)
    return pick(rows, scores[rows], n)


def pick(rows: NDArray[Any], found: NDArray[Any], n: int) -> tuple[Rows, Scores]:
    """At most n of `rows`, those with the greatest `found`, best first; equal ones: the one that stands first."""
    if len(rows) > n:
        least = np.partition(found, len(found) - n)[len(found) - n]
        above, equal = np.flatnonzero(found > least), np.flatnonzero(found == least)
        keep = np.concatenate([above, equal[: n - len(above)]])
        rows, found = rows[keep], found[keep]
    order = np.lexsort((rows, -found))
    return rows[order].astype(np.int32), found[order].astype(np.float32)


def none(channel: str) -> Scored:
    """A channel that found nothing."""
    return Scored(channel, np.zeros(0, np.int32), np.zeros(0, np.float32))
