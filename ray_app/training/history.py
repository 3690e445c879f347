"""What the visitors of one tenant did, as arrays; and what was known of one of them at a moment of the past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_app.features.hot import WEIGHTS
from ray_app.features.profile import MOST_READ, UNWANTED
from ray_app.types import Interactions, Mask, Scores, Visitor

if TYPE_CHECKING:
    from ray_app.stores.olap import Olap

HISTORY = (Path(__file__).parent / "history.sql").read_text()
BOUGHT = WEIGHTS["purchase"]


@dataclass(frozen=True)
class History:
    """`visitors`: name of each user number. `events` are sorted by time; what a visitor refused has weight 0.
    `watched_s` float32, as long: of a play its time in s, else 0."""

    visitors: tuple[str, ...]
    events: Interactions
    watched_s: Scores

    def before(self, at: int) -> History:
        """What happened before `at` (ms)."""
        return self.part(slice(0, int(np.searchsorted(self.events.at, at))))

    def between(self, at: int, until: int) -> History:
        """What happened in [at, until), in ms."""
        first, last = np.searchsorted(self.events.at, [at, until])
        return self.part(slice(int(first), int(last)))

    def part(self, keep: slice | Mask) -> History:
        """The behaviours that a slice or a mask keeps, in their order."""
        e = self.events
        events = replace(e, users=e.users[keep], rows=e.rows[keep], at=e.at[keep], weights=e.weights[keep])
        return History(self.visitors, events, self.watched_s[keep])


async def read_history(olap: Olap, tenant: str, rows: Mapping[str, int], n_rows: int, before: int) -> History:
    """Behaviours on items that have a row; `before` in ms."""
    asked = {"tenant": tenant, "types": [*WEIGHTS, *UNWANTED], "before": before}
    found = await olap.columns(HISTORY, asked)
    return from_columns(found, rows, n_rows)


def from_columns(found: Mapping[str, NDArray[Any]], rows: Mapping[str, int], n_rows: int) -> History:
    """visitor, item_id, type, occurred_at, and maybe value: equal lengths, sorted by time."""
    if not found or not len(found["visitor"]):
        empty = np.zeros(0, np.int32)
        none = np.zeros(0, np.float32)
        return History((), Interactions(empty, empty, np.zeros(0, np.int64), none, 0, n_rows), none)
    at_row = np.fromiter((rows.get(i, -1) for i in found["item_id"]), np.int32, len(found["item_id"]))
    keep = at_row >= 0
    names, users = np.unique(found["visitor"][keep].astype(str), return_inverse=True)
    weights = np.fromiter((WEIGHTS.get(t, 0) for t in found["type"][keep]), np.float32, int(keep.sum()))
    at = found["occurred_at"][keep].astype(np.int64)
    events = Interactions(users.astype(np.int32), at_row[keep], at, weights, len(names), n_rows)
    watched = np.zeros(len(found["visitor"]), np.float32)
    if "value" in found:  # of a play it is the time watched
        watched = np.where(found["type"] == "play", np.maximum(np.nan_to_num(found["value"]), 0.0), 0.0)
    return History(tuple(names.tolist()), events, watched[keep].astype(np.float32))


class Journal:
    """A history by visitor, to be asked for one of them at a moment."""

    def __init__(self, known: History) -> None:
        e = known.events
        order = np.lexsort((e.at, e.users))
        self._names = known.visitors
        self._numbers = {name: number for number, name in enumerate(known.visitors)}
        self._users, self._rows, self._times, self._weights = (
            e.users[order],
            e.rows[order],
            e.at[order],
            e.weights[order],
        )

    def before(self, name: str, at: int) -> Visitor:
        """As the profile would have told a request at `at`; somebody without a history by then has an empty one."""
        number = self._numbers.get(name, -1)
        first, end = np.searchsorted(self._users, [number, number + 1])
        return self._part(name, int(first), int(first + np.searchsorted(self._times[first:end], at)), at)

    def all(self, at: int) -> dict[int, Visitor]:
        """By user number everybody with a history, all of which came before `at`."""
        starts = np.flatnonzero(np.diff(self._users, prepend=-1)).tolist()
        ends = [*starts[1:], len(self._users)]
        numbers = self._users[starts].tolist() if starts else []
        return {u: self._part(self._names[u], a, b, at) for u, a, b in zip(numbers, starts, ends, strict=False)}

    def _part(self, name: str, first: int, end: int, at: int) -> Visitor:
        if first == end:
            none = np.zeros(0, np.float32)
            return Visitor(name, none.astype(np.int32), none, none, none, none.astype(np.int32))
        part = slice(first, end)
        return _visitor(name, self._rows[part], self._times[part], self._weights[part], at)


def visitors_at(known: History, at: int) -> dict[int, Visitor]:
    """By user number everybody with a history, as the profile would have told a request at `at`."""
    return Journal(known).all(at)


def _visitor(
    name: str, rows: NDArray[np.int32], times: NDArray[np.int64], weights: NDArray[np.float32], at: int
) -> Visitor:
    """The last behaviour on each item stands for it, newest items first; an item refused last is seen, not recent."""
    items, last = np.unique(rows[::-1], return_index=True)
    newest = len(rows) - 1 - last
    seen, liked = items, weights[newest] > 0
    items, newest = items[liked], newest[liked]
    order = np.argsort(-times[newest], kind="stable")[:MOST_READ]
    recent, position = items[order], newest[order]
    bought = np.bincount(rows[weights == BOUGHT], minlength=int(rows.max()) + 1)
    ages = ((at - times[position]) / 1000.0).astype(np.float32)
    return Visitor(
        name,
        recent.astype(np.int32),
        weights[position],
        ages,
        bought[recent].astype(np.float32),
        seen.astype(np.int32),
    )
