"""How much of the catalogue lists show, and how unusual that is; each figure over visitors that may be weighed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ray_app.models.evaluate import Lists, Wanted
from ray_app.models.interval import Weights


@dataclass(frozen=True)
class Assortment:
    """Everything that was taken before or later. `taken`: user -> items of before; `wanted`: user -> items of later."""

    taken: Mapping[str, Sequence[str]]
    wanted: Wanted

    @cached_property
    def _often(self) -> Mapping[str, int]:
        return Counter(i for items in self.taken.values() for i in items)

    @cached_property
    def _place(self) -> Mapping[str, int]:
        ids = sorted({*self._often, *(i for items in self.wanted.values() for i in items)}, key=_as_number)
        return {i: n for n, i in enumerate(ids)}

    @cached_property
    def popular(self) -> NDArray[np.float64]:
        return np.array([self._often.get(i, 0) for i in self._place], float)

    def shown(self, lists: Lists, k: int) -> Shown:
        """By the first k of each list. What a user had taken, repeats and items of nowhere are not shown, nor is
        anything to a user who wanted nothing."""
        users, items = list[int](), list[int]()
        for user, (name, later) in enumerate(self.wanted.items()):
            mine = {*lists.get(name, ())[:k]} - set(self.taken.get(name, ())) if later else ()
            found = [self._place[i] for i in mine if i in self._place]
            users += [user] * len(found)
            items += found
        return Shown(
            np.array(users, np.int64), np.array(items, np.int64), self.popular, len(self.taken), len(self.wanted)
        )


@dataclass(frozen=True)
class Shown:
    """One line per item that a user is shown: numbers of the users as wanted has them, and places of the items.
    `popular`: by place how often it had been taken; `takers`: users of before; `count`: of later."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    popular: NDArray[np.float64]
    takers: int
    count: int

    def _times(self, weights: Weights) -> NDArray[np.float64]:
        return np.asarray(np.bincount(self.items, weights[self.users], len(self.popular)), np.float64)

    def coverage(self, weights: Weights) -> float:
        """Share of the items that somebody is shown."""
        return float((self._times(weights) > 0).mean()) if len(self.popular) else 0.0

    def gini(self, weights: Weights) -> float:
        """0: all items are shown alike."""
        times, n = self._times(weights), len(self.popular)
        total = times.sum()
        return float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(times)).sum() / (n * total)) if total else 1.0

    @cached_property
    def _rank(self) -> NDArray[np.float64]:
        order = self.popular.argsort(kind="stable")
        return np.asarray(order.argsort() / max(1, len(order) - 1), np.float64)

    def percentile(self, weights: Weights) -> float:
        """Mean, of what is shown, of the place by how often it had been taken."""
        return self._mean(self._rank, weights)

    @cached_property
    def _bits(self) -> NDArray[np.float64]:
        return np.asarray(-np.log2(np.maximum(self.popular, 0.5) / max(1, self.takers)))

    def novelty(self, weights: Weights) -> float:
        """Mean information, in bits, of who takes what is shown (Castells et al., "Novelty and diversity metrics",
        2011); an item that nobody took counts as if half of one had."""
        return self._mean(self._bits, weights)

    def _mean(self, values: NDArray[np.float64], weights: Weights) -> float:
        w = weights[self.users]
        return float(values[self.items] @ w / w.sum()) if w.sum() else 0.0


def variety(taken: Mapping[str, Sequence[str]], wanted: Wanted, lists: Lists, k: int = 20) -> dict[str, float]:
    """coverage@k, gini@k, popularity_percentile and novelty of the lists, every user once."""
    shown, even = Assortment(taken, wanted).shown(lists, k), np.ones(len(wanted))
    return {
        f"coverage@{k}": shown.coverage(even), f"gini@{k}": shown.gini(even),
        "popularity_percentile": shown.percentile(even), "novelty": shown.novelty(even),
    }  # fmt: skip


def _as_number(id: str) -> tuple[int, str]:
    """Numbers in their order, so that equally popular items rank as in the evaluator of record."""
    return (int(id), "") if id.isdigit() else (1 << 62, id)
