"""A search under a mask, by a store that knows filters on the row but no masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ray_app.stores.base import MOST_ANSWERS
from ray_app.types import Mask, Rows, Scores

FEW = 4_096  # rows that go into one filter
SPARE = 1.5  # of the answers that are not allowed, this much more than their share is expected

Find = Callable[[str, int], tuple[Rows, Scores]]
Count = Callable[[str], int]


def search(find: Find, count: Count, n: int, allowed: Mask) -> tuple[Rows, Scores]:
    """The n best of the allowed rows, best first; fewer only when fewer of them are stored.

    `find(filter, limit)` answers at most `limit` rows of the filter, best first; `count(filter)` how many there are.
    Few allowed rows are named in the filter. For many, more than n are asked for and those not allowed dropped; when
    that does not give n, the allowed ones are named part by part.
    """
    rows = np.flatnonzero(allowed)
    if len(rows) > FEW:
        found = _widen(find, count, n, allowed, len(rows))
        if found is not None:
            return found
    parts = [rows[k : k + FEW] for k in range(0, len(rows), FEW)]
    return _best(n, [find(f"row in [{','.join(map(str, part.tolist()))}]", min(n, len(part))) for part in parts])


def _widen(find: Find, count: Count, n: int, allowed: Mask, k: int) -> tuple[Rows, Scores] | None:
    """None when the most that one search answers is not enough, or when an approximate index gave up early."""
    below, limit = f"row < {len(allowed)}", math.ceil(SPARE * n * len(allowed) / k)
    while limit <= MOST_ANSWERS:
        rows, scores = find(below, limit)
        keep = allowed[rows]
        if np.count_nonzero(keep) >= n:
            return rows[keep][:n], scores[keep][:n]
        if len(rows) < limit:
            return (rows[keep], scores[keep]) if len(rows) == count(below) else None
        limit = max(limit + 1, min(4 * limit, MOST_ANSWERS))
    return None


def _best(n: int, parts: list[tuple[Rows, Scores]]) -> tuple[Rows, Scores]:
    if not parts:
        return np.zeros(0, np.int32), np.zeros(0, np.float32)
    rows, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")[:n]
    return rows[order], scores[order]
