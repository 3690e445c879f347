"""Diversity: candidates that are relevant and unlike each other, and which of them are copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ray_app.models.base import Diversifier
from ray_app.types import Matrix, Rows, Scores

LEAST_VOLUME = 1e-5  # of what a candidate adds: a copy of what was picked adds nothing, and is picked last


def mmr(relevance: Scores, vectors: Matrix, n: int, diversity: float) -> Rows:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998): each pick has the most of
    (1 - diversity) * relevance - diversity * (likeness to the nearest that was picked)."""
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


def dpp(relevance: Scores, vectors: Matrix, n: int, diversity: float) -> Rows:
    """Greedy MAP of a determinantal point process (Chen, Zhang and Zhou, 2018): each pick adds the most to
    (1 - diversity) * (sum of relevance) + diversity * (logarithm of the determinant of the likenesses)."""
    m, n = len(relevance), min(n, len(relevance))
    if diversity <= 0 or m == 0:
        return np.argsort(-relevance, kind="stable")[:n].astype(np.int32)
    alike = (vectors @ vectors.T).astype(np.float32)
    np.fill_diagonal(alike, 1.0)  # also of an item without a vector: it is unlike all others
    worth = (1 - diversity) * relevance
    volume, factors = np.ones(m, np.float32), np.zeros((n, m), np.float32)
    picked = np.empty(n, np.int32)
    for k in range(n):
        best = int((worth + diversity * np.log(np.maximum(volume, LEAST_VOLUME))).argmax())
        picked[k], worth[best] = best, -np.inf
        if volume[best] > LEAST_VOLUME:  # else it lies in the space of the others, and rounding would grow
            shared = factors[:k, best] @ factors[:k] if k else np.zeros(m, np.float32)
            factors[k] = (alike[best] - shared) / np.sqrt(volume[best])
            volume -= factors[k] ** 2
    return picked


def copies(vectors: Matrix, titles: Sequence[str], likeness: float) -> NDArray[np.intp]:
    """Which candidates, best first, are one thing: intp [m], the same number for copies, -1 for what has none.

    Copies have one title, or vectors (float32 [k, d] of the first k) whose cosine is at least `likeness`; the chain is
    not followed: each belongs to the first that it is a copy of.
    """
    m, k = len(titles), len(vectors)
    first: dict[str, int] = {}
    of = np.array([first.setdefault(t, i) if t else i for i, t in enumerate(titles)], np.intp)
    alike = np.triu(vectors @ vectors.T >= likeness, 1) if vectors.size else np.zeros((k, k), np.bool_)
    for i, j in np.argwhere(alike).tolist():
        if of[j] == j and of[i] == i:
            of[j] = i
    alone = np.bincount(of, minlength=m) == 1
    return np.where(alone[of], -1, of)


DIVERSIFIERS: Mapping[str, Diversifier] = MappingProxyType({"mmr": mmr, "dpp": dpp})
