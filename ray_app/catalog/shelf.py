"""The shelf: a tenant's arrays by row, and what the change feed says since they were read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.changes import Change
from ray_app.catalog.item import AVAILABLE
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.plane import surface
from ray_app.catalog.rows import FIRST, Epoch
from ray_app.types import Matrix, Rows

MOST_TAGS = 8  # of an item are matched


class Shelf:
    """Arrays are replaced, never written, once a request may hold them; rows behind a pinned `n` may be filled in."""

    def __init__(self, size: int = 0, epoch: Epoch = FIRST) -> None:
        self._n, self.epoch = size, epoch
        self._ids: list[str] = [""] * size
        self._titles: list[str] = [""] * size
        self._bodies: list[Mapping[str, Any] | None] = [None] * size
        self._versions = np.full(size, -1, np.int64)
        self._rows: dict[str, int] = {}
        self._sold: dict[str, Change] = {}  # what was last said of an item's stock
        self._categories, self._types, self._tag_names = _Names(), _Names(), _Names()
        self._tag_names.code("")  # 0 is the place of no tag
        self._available = np.zeros(size, np.bool_)
        self._category, self._type = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self._tags = np.zeros((size, MOST_TAGS), np.int32)
        self._price = np.full(size, np.nan, np.float32)
        self._published = np.zeros(size, np.int64)
        self._surface = surface(size, np.zeros(0, np.int32), np.zeros((0, 0), np.float32))
        self.space = ""
        self._pinned: Pinned | None = None

    def pin(self) -> Pinned:
        """The present state; the same object until something changes."""
        if self._pinned is None:
            n = self._n
            self._pinned = Pinned(
                n, self._ids, self._rows, self._titles, self._bodies, self._available[:n], self._category[:n],
                tuple(self._categories.names), self._type[:n], tuple(self._types.names), self._price[:n],
                self._published[:n], self._surface.at(n), self.space, self._tags[:n],
                self.epoch.id,
            )  # fmt: skip
        return self._pinned

    def lacks(self, changes: Iterable[Change]) -> list[Change]:
        """Changes to live items that carry no vector of this shelf's space: theirs must be made before `apply`."""
        return [c for c in changes if c.item is not None and (c.vector is None or c.space != self.space)]

    def apply(self, changes: Sequence[Change], made: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """All or none is seen by a request. `made`: vectors by item id for what `lacks` named."""
        if not changes:
            return
        told, changes = [c for c in changes if c.sold_out is not None], [c for c in changes if c.sold_out is None]
        self._grow(max((c.row + 1 for c in changes), default=0))
        self._available, self._category, self._type = self._available.copy(), self._category.copy(), self._type.copy()
        self._price, self._published, self._tags = self._price.copy(), self._published.copy(), self._tags.copy()
        if self._pinned is not None:
            self._leave_to(self._pinned, changes)
        vectors = {}
        for c in told:
            self._tell(c)
        for c in changes:
            if c.version >= self._versions[c.row]:
                self._put(c)
                vector = (made or {}).get(c.item_id) if c.space != self.space or c.vector is None else c.vector
                if c.item is not None and vector is not None and len(vector) == self._surface.size:
                    vectors[c.row] = vector
        self._surface.put(vectors)
        self._pinned = None

    def _leave_to(self, pinned: Pinned, changes: Sequence[Change]) -> None:
        """Whoever holds `pinned` keeps what stands on its rows; what only grows behind them is shared with it."""
        held = [c for c in changes if c.row < pinned.n]
        if held:
            self._ids, self._titles, self._bodies = self._ids.copy(), self._titles.copy(), self._bodies.copy()
        if any(c.item_id not in self._rows for c in held):  # a row that was given, but not yet filled
            self._rows = self._rows.copy()

    def replace_vectors(self, space: str, rows: Rows, vectors: Matrix, base: Matrix | None = None) -> None:
        """The catalogue in another embedder's space: rows int32 [k], vectors float32 [k, d]; others become zero, or
        what `base` [m, d] has, which is kept as it is."""
        self._surface = surface(len(self._ids), rows, vectors, base)
        self.space, self._pinned = space, None

    def without_vector(self) -> list[tuple[int, Mapping[str, Any]]]:
        """(row, body) of available items whose vector is zero: a text without known words is one of them."""
        if not self._surface.size:
            return []
        rows = np.flatnonzero(self._available[: self._n]).astype(np.int32)
        empty = rows[~self._surface.at(self._n).take(rows).any(axis=1)]
        return [(int(r), body) for r in empty if (body := self._bodies[r]) is not None]

    def _put(self, c: Change) -> None:
        r = c.row
        self._versions[r] = c.version
        self._ids[r] = c.item_id
        before = self._rows.get(c.item_id, r)
        if before != r:  # two writers gave it a row each; the later one counts
            self._available[before] = False
        self._rows[c.item_id] = r
        if c.item is None:
            self._available[r], self._bodies[r] = False, None
            return
        self._titles[r], self._bodies[r] = c.item["title"], c.item
        self._available[r] = self._may_be_sold(c.item_id, c.item)
        self._category[r] = self._categories.code(c.item["category"])
        self._type[r] = self._types.code(c.item["type"])
        tags = [self._tag_names.code(tag) for tag in c.item["tags"][:MOST_TAGS]]
        self._tags[r] = tags + [0] * (MOST_TAGS - len(tags))
        price = c.item["price"]
        self._price[r] = np.nan if price is None else price
        self._published[r] = c.item["published_at"]

    def _tell(self, c: Change) -> None:
        """Also of an item that is not here yet."""
        known = self._sold.get(c.item_id)
        if known is not None and known.version > c.version:
            return
        self._sold[c.item_id] = c
        row = self._rows.get(c.item_id)
        body = None if row is None else self._bodies[row]
        if row is not None and body is not None:
            self._available[row] = self._may_be_sold(c.item_id, body)

    def _may_be_sold(self, item_id: str, body: Mapping[str, Any]) -> bool:
        told = self._sold.get(item_id)
        return body["status"] == AVAILABLE and not (told is not None and told.sold_out)

    def _grow(self, n: int) -> None:
        if n <= self._n:
            return
        held = len(self._ids)
        if n > held:
            more = max(n, held * 3 // 2, 256) - held
            self._ids += [""] * more
            self._titles += [""] * more
            self._bodies += [None] * more
            self._versions = np.concatenate([self._versions, np.full(more, -1, np.int64)])
            self._available = np.concatenate([self._available, np.zeros(more, np.bool_)])
            self._category = np.concatenate([self._category, np.zeros(more, np.int32)])
            self._type = np.concatenate([self._type, np.zeros(more, np.int32)])
            self._tags = np.concatenate([self._tags, np.zeros((more, MOST_TAGS), np.int32)])
            self._price = np.concatenate([self._price, np.full(more, np.nan, np.float32)])
            self._published = np.concatenate([self._published, np.zeros(more, np.int64)])
            self._surface.grow(held + more)
        self._n = n


class _Names:
    """Strings as small numbers, in the order of their first use."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, name: str) -> int:
        if name not in self._codes:
            self._codes[name] = len(self.names)
            self.names.append(name)
        return self._codes[name]
