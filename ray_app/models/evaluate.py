"""Figures of ranked lists, as LightGCN and BARS define them: every item is a candidate, means over all users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("recall", "ndcg", "precision", "hit", "mrr", "map")
Wanted = Mapping[str, set[str]]
Lists = Mapping[str, Sequence[str]]


def evaluate(wanted: Wanted, lists: Lists, k: int = 20) -> dict[str, float]:
    """recall, ndcg, precision, hit, mrr and map at k. `wanted`: user -> items taken later (users without any are
    left out); `lists`: user -> items best first. A repeated item is no hit; a user without a list counts 0."""
    found = of_each([items for items in wanted.values() if items], [lists.get(u, ()) for u in wanted if wanted[u]], k)
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in found.items()}


def of_each(wanted: Sequence[set[str]], lists: Sequence[Sequence[str]], k: int = 20) -> dict[str, NDArray[np.float64]]:
    """The same figures of each user, in the order of `wanted`, of which none is empty."""
    gain = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gain)])
    whole = {f"{name}@{k}": np.zeros(len(wanted)) for name in NAMES}
    recall, ndcg, precision, hit, mrr, average = whole.values()
    for u, (items, ranked) in enumerate(zip(wanted, lists, strict=True)):
        hits = _hits(ranked[:k], items, k)
        found, most = hits.sum(), min(k, len(items))
        if not found:
            continue
        recall[u], precision[u], hit[u] = found / len(items), found / k, 1.0
        ndcg[u] = (hits * gain).sum() / ideal[most]
        mrr[u] = 1.0 / (1 + int(np.argmax(hits)))
        average[u] = (hits * np.cumsum(hits) / np.arange(1, k + 1)).sum() / most
    return whole


def distance(vectors: NDArray[Any]) -> float:
    """Mean of 1 - cosine over the pairs of one list; vectors [n, d] of length 1 or 0. NaN for fewer than two."""
    n = len(vectors)
    if n < 2:
        return float("nan")
    whole = vectors.sum(axis=0, dtype=np.float64)
    same = float((vectors.astype(np.float64) ** 2).sum())
    return float(1.0 - (whole @ whole - same) / (n * (n - 1)))


def _hits(items: Sequence[str], wanted: set[str], k: int) -> NDArray[np.float64]:
    hits, met = np.zeros(k), set()
    for place, item in enumerate(items):
        hits[place] = item in wanted and item not in met
        met.add(item)
    return hits
