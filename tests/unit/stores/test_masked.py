"""A search under a mask, over a store that knows filters alone, answers at most `MOST` rows and may give up early."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ray_app.stores import masked
from ray_app.stores.base import MOST_ANSWERS
from ray_app.types import Rows, Scores

N = 60_000
SCORES: Scores = np.random.default_rng(3).permutation(N).astype(np.float32)


class Store:
    def __init__(self, stored: int = N, gives: int = MOST_ANSWERS) -> None:
        self.stored, self.gives, self.asked = stored, gives, 0

    def rows(self, filter: str) -> Rows:
        if below := re.fullmatch(r"row < (\d+)", filter):
            return np.arange(min(self.stored, int(below[1])), dtype=np.int32)
        named = np.array(filter.removeprefix("row in [").removesuffix("]").split(","), np.int32)
        assert len(named) <= masked.FEW
        return named[named < self.stored]

    def find(self, filter: str, limit: int) -> tuple[Rows, Scores]:
        assert 0 < limit <= MOST_ANSWERS
        self.asked += 1
        rows = self.rows(filter)
        most = limit if filter.startswith("row in") else min(limit, self.gives)
        best = rows[np.argsort(-SCORES[rows])][:most]
        return best, SCORES[best]

    def count(self, filter: str) -> int:
        return len(self.rows(filter))


def worst_allowed(k: int) -> masked.Mask:
    """The k rows that a search without a mask finds last."""
    allowed = np.zeros(N, np.bool_)
    allowed[np.argsort(SCORES)[:k]] = True
    return allowed


@pytest.mark.parametrize("n", [1, 10, 500, 16_384])
@pytest.mark.parametrize("k", [0, 1, 4_096, 4_097, 20_000, 45_000, N])
@pytest.mark.parametrize(
    "store", [Store(), Store(stored=700), Store(gives=300)], ids=["whole", "few stored", "gives up"]
)
def test_it_is_exact_however_the_mask_lies(store: Store, n: int, k: int) -> None:
    rng = np.random.default_rng(k)
    for allowed in (worst_allowed(k), rng.permutation(np.arange(N) < k)):
        rows, scores = masked.search(store.find, store.count, n, allowed)
        stored = np.flatnonzero(allowed[: store.stored])
        wanted = stored[np.argsort(-SCORES[stored])][:n]
        assert (rows.tolist(), scores.tolist()) == (wanted.tolist(), SCORES[wanted].tolist())
        assert rows.dtype == np.int32


def test_a_usual_mask_costs_one_search() -> None:
    store = Store()
    allowed = np.random.default_rng(0).random(N) < 0.8
    masked.search(store.find, store.count, 300, allowed)
    assert store.asked == 1
