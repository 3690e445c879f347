"""Maximal marginal relevance (Carbonell and Goldstein, 1998)."""

from __future__ import annotations

import numpy as np

from ray_app.types import Matrix, Rows, Scores


def mmr(relevance: Scores, vectors: Matrix, n: int, diversity: float) -> Rows:
    """Positions of the n picked, in order. relevance float32 [m] in 0..1, vectors float32 [m, d] of length 1 or 0.

    Each pick has the most of (1 - diversity) * relevance - diversity * (likeness to the nearest that was picked).
    """
    m, n = len(relevance), min(n, len(relevance))
    if diversity <= 0 or m == 0:
        return np.argsort(-relevance, kind="stable")[:n].astype(np.int32)
    worth = (1 - diversity) * relevance
    alike = diversity * (vectors @ vectors.T)
    nearest, left = np.zeros(m, np.float32), np.empty(m, np.float32)
    picked = np.empty(n, np.int32)
    for k in range(n):
        picked[k] = best = int(np.subtract(worth, nearest, out=left).argmax())
        worth[best] = -np.inf
        np.maximum(nearest, alike[best], out=nearest)
    return picked
