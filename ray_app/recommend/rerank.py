"""Rerank: diversity, at most a share per category, the operator's pins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import Scenario
from ray_app.models.diversity import mmr
from ray_app.types import Mask, Rows, Scores

POOL = 3  # times n candidates are compared with each other, and at least LEAST
LEAST = 60


def rerank(rows: Rows, scores: Scores, n: int, scenario: Scenario, pinned: Pinned) -> Rows:
    """At most n of `rows` int32 [m], in the order to show. scores float32 [m]. A cap is broken only when nothing else
    is left: what the caps left out comes last."""
    best = np.argsort(-scores, kind="stable")
    rows, scores = rows[best], scores[best]
    pool = rows[: max(LEAST, POOL * n)]
    order = mmr(_relevance(scores[: len(pool)]), pinned.vectors.take(pool), 2 * n, scenario.diversity)
    left = np.ones(len(rows), np.bool_)
    left[order] = False
    return _capped(np.concatenate([rows[order], rows[left]]), n, scenario.category_share, pinned)


def pinned_rows(scenario: Scenario, allowed: Mask, n: int, pinned: Pinned) -> dict[int, int]:
    """Position by row of the operator's items that are allowed and fall into the first n, in the order to insert."""
    fixed = {}
    for p in sorted(scenario.pins, key=lambda p: p.position):
        row = pinned.row_of(p.item_id)
        if row is not None and allowed[row] and p.position < n:
            fixed[row] = p.position
    return fixed


def pin(rows: Rows, pins: Mapping[int, int], n: int) -> Rows:
    """At most n of `rows`, with the pinned rows at their positions."""
    if not pins:
        return rows
    placed = [int(r) for r in rows if int(r) not in pins]
    for row, position in pins.items():
        placed.insert(position, row)
    return np.array(placed[:n], np.int32)


def _relevance(scores: Scores) -> Scores:
    """0..1, so that `diversity` means the same for every ranker."""
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    return np.asarray((scores - low) / max(high - low, 1e-9), np.float32)


def _capped(rows: Rows, n: int, share: float, pinned: Pinned) -> Rows:
    most = max(1, int(np.ceil(share * n)))
    taken: Counter[int] = Counter()
    kept, over = [], []
    for row in rows.tolist():
        category = int(pinned.category[row])
        named = pinned.categories[category] != ""
        if named and taken[category] >= most:
            over.append(row)
            continue
        taken[category] += 1
        kept.append(row)
        if len(kept) == n:
            break
    return np.array((kept + over)[:n], np.int32)
