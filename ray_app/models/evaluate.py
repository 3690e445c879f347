"""Figures of ranked lists, as LightGCN and BARS define them: every item is a candidate, means over all users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def evaluate(wanted: Mapping[str, set[str]], lists: Mapping[str, Sequence[str]], k: int = 20) -> dict[str, float]:
    """recall, ndcg, precision, hit, mrr and map at k. `wanted`: user -> items taken later (users without any are
    left out); `lists`: user -> items best first. A repeated item is no hit; a user without a list counts 0."""
    users = [u for u, items in wanted.items() if items]
    gain = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gain)])
    sums = dict.fromkeys(("recall", "ndcg", "precision", "hit", "mrr", "map"), 0.0)
    for user in users:
        hits = _hits(lists.get(user, ())[:k], wanted[user], k)
        found, most = hits.sum(), min(k, len(wanted[user]))
        if not found:
            continue
        sums["recall"] += found / len(wanted[user])
        sums["precision"] += found / k
        sums["hit"] += 1.0
        sums["ndcg"] += float((hits * gain).sum() / ideal[most])
        sums["mrr"] += 1.0 / (1 + int(np.argmax(hits)))
        sums["map"] += float((hits * np.cumsum(hits) / np.arange(1, k + 1)).sum() / most)
    return {f"{name}@{k}": float(total / len(users)) if users else 0.0 for name, total in sums.items()}


def _hits(items: Sequence[str], wanted: set[str], k: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    hits, met = np.zeros(k), set()
    for place, item in enumerate(items):
        hits[place] = item in wanted and item not in met
        met.add(item)
    return hits
