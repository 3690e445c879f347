"""Why an item is there: the channel that said most for it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import Scenario
from ray_app.models.neighbours import Neighbours
from ray_app.recommend.recall import SOFTEN, Candidates
from ray_app.types import Reason, Rows, Visitor

if TYPE_CHECKING:
    from ray_app.models.base import Recaller

MOST_COMPARED = 32
TOGETHER = ("item_cf", "covisit")
PLAIN = {
    "hot": Reason("POPULAR", "Popular this week"),
    "new": Reason("NEW", "New"),
    "factors": Reason("FITS", "Fits what you took"),
    "two_tower": Reason("FITS", "Fits what you took"),
    "precomputed": Reason("FITS", "Fits what you took"),
    "tags": Reason("TAGS", "Shares tags with what you took"),
    "listed": Reason("PINNED", "Chosen by the shop"),
    "pinned": Reason("PINNED", "Chosen by the shop"),
    "fallback": Reason("FALLBACK", "Popular or new"),
    "seen": Reason("SEEN", "You know it already; nothing unseen is left"),
}


def channels_of(rows: Rows, candidates: Candidates, scenario: Scenario) -> dict[int, tuple[str, ...]]:
    """By row the channels that found it, the one that said most first."""
    said: list[list[tuple[float, str]]] = [[] for _ in rows]
    for name, scored in candidates.found.items():
        weight = scenario.channels[name].weight
        places, at = np.nonzero(scored.rows[:, None] == rows)
        for place, k in zip(places.tolist(), at.tolist(), strict=True):
            said[k].append((-weight / (SOFTEN + place), name))
    return {row: tuple(name for _, name in sorted(votes)) for row, votes in zip(rows.tolist(), said, strict=True)}


class Reasons:
    """Made once a request: the nearest of the visitor's items for each row shown."""

    def __init__(self, rows: Rows, visitor: Visitor, pinned: Pinned, trained: Mapping[str, Recaller]) -> None:
        self._visitor, self._pinned = visitor, pinned
        recent = visitor.recent[:MOST_COMPARED]
        self._near: dict[int, int] = {}
        if len(recent) and len(rows):
            if pinned.vectors.size:
                nearest = recent[np.argmax(pinned.vectors.take(rows) @ pinned.vectors.take(recent).T, axis=1)]
            else:
                nearest = np.broadcast_to(recent[:1], rows.shape)
            self._near = dict(zip(rows.tolist(), nearest.tolist(), strict=True))
        self._together = {
            name: dict(zip(rows.tolist(), model.nearest(rows, recent), strict=True))
            for name, model in trained.items()
            if isinstance(model, Neighbours) and len(recent)
        }

    def of(self, row: int, channel: str) -> Reason:
        """Why the channel, the first of those that found the row, brought it."""
        if channel in PLAIN:
            return PLAIN[channel]
        if channel == "hot_category":
            return Reason("POPULAR_IN_CATEGORY", f"Popular in {self._category(row)}")
        if channel == "buy_again":
            return Reason("BUY_AGAIN", f"You have bought it {self._times(row)}")
        if channel in TOGETHER:
            source = self._together.get(channel, {}).get(row, -1)
            source = source if source >= 0 else self._near.get(row, -1)
            return Reason("TAKEN_TOGETHER", f"Often taken together with {self._title(source)}")
        return Reason("SIMILAR", f"Similar to {self._title(self._near.get(row, -1))}")

    def _title(self, row: int) -> str:
        return self._pinned.titles[row] if row >= 0 else "what you took"

    def _category(self, row: int) -> str:
        return self._pinned.categories[self._pinned.category[row]] or "what you like"

    def _times(self, row: int) -> str:
        at = np.flatnonzero(self._visitor.recent == row)
        n = int(self._visitor.counts[at[0]]) if len(at) else 1
        return "once" if n == 1 else f"{n} times"
