"""What diversity costs and brings on the candidates and scores of one run: the slates by each way of reranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME
from ray_app.recommend.rerank import Plan, rerank
from ray_app.types import Rows, Scores

ALONE = "no diversity"
WAYS = {
    ALONE: replace(HOME, diversity=0.0),
    "mmr as home": HOME,
    "mmr .2": replace(HOME, diversity=0.2),
    "dpp .02": replace(HOME, diversifier="dpp", diversity=0.02),
    "dpp .05": replace(HOME, diversifier="dpp", diversity=0.05),
    "no copies .98": replace(HOME, duplicate_likeness=0.98),
    "no copies .9": replace(HOME, duplicate_likeness=0.9),
}
KEEPS = 0.97  # of N@20: what diversity may not cost


def ways(rows: Rows, scores: Scores, n: int, pinned: Pinned) -> dict[str, Rows]:
    return {name: rerank(rows, scores, Plan(n, scenario), pinned).rows for name, scenario in WAYS.items()}


def apart(rows: Sequence[str], pinned: Pinned) -> float:
    """Intra-list distance: the mean of 1 - cosine over all pairs of a slate."""
    vectors = pinned.vectors.take(np.array([int(r) for r in rows], np.int32))
    m = len(vectors)
    if m < 2:
        return 0.0
    alike = vectors @ vectors.T
    return float(1.0 - (alike.sum() - np.trace(alike)) / (m * (m - 1)))


def report(
    figures: Mapping[str, Mapping[str, float]], lists: Mapping[str, Mapping[str, Sequence[str]]], pinned: Pinned
) -> dict[str, float]:
    """Prints and returns the intra-list distance of each way, beside the share of N@20 that it keeps."""
    found = {name: mean(apart(rows, pinned) for rows in lists[name].values()) for name in WAYS}
    print(f"{'':14}{'apart':>8}{'keeps':>8}  (of N@20; floor {KEEPS})")
    for name, distance in found.items():
        print(f"{name:14}{distance:8.4f}{figures[name]['ndcg@20'] / figures[ALONE]['ndcg@20']:8.3f}")
    return {name: round(distance, 4) for name, distance in found.items()}
