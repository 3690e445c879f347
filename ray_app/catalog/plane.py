"""A tenant's text vectors by row: a base that all replicas of a node map from one file, and what was written since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_app.types import Item, Matrix, Rows, Scores

MOST_OVER = 1000  # rows of the base that are kept beside it, or a tenth of it: then it is written anew, in memory
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Space:
    """An embedder's space: its name, what puts items into it, and the vectors of rows 0 .. m-1 as it was made."""

    name: str
    embed: Callable[[Sequence[Item]], Matrix]
    base: Matrix | None = None


@dataclass(frozen=True, slots=True)
class Plane:
    """float32 vectors for rows 0 .. n-1, zero where there is none; it never changes. `base` [m, size], `tail`
    [n - m, size] the rows behind it, `rows` int32 ascending those of the base that `over` replaces."""

    base: Matrix
    tail: Matrix
    rows: Rows
    over: Matrix

    @property
    def size(self) -> int:
        return int(self.base.shape[1])

    def __len__(self) -> int:
        return len(self.base) + len(self.tail)

    def take(self, rows: Rows) -> Matrix:
        """float32 [len(rows), size]."""
        if not len(self.tail) and not len(self.rows):
            return self.base[rows]
        found = np.empty((len(rows), self.size), np.float32)
        behind = rows >= len(self.base)
        found[~behind], found[behind] = self.base[rows[~behind]], self.tail[rows[behind] - len(self.base)]
        if len(self.rows):
            at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            replaced = self.rows[at] == rows
            found[replaced] = self.over[at[replaced]]
        return found

    def whole(self) -> Matrix:
        """float32 [n, size]."""
        return self.take(np.arange(len(self), dtype=np.int32))

    def scores(self, query: Vector) -> Scores:
        """float32 [n]: the inner product of each row with `query` [size]."""
        found = self.base @ query
        if len(self.tail):
            found = np.concatenate([found, self.tail @ query])
        if len(self.rows):
            found[self.rows] = self.over @ query
        return found


class Surface:
    """What a shelf writes on; a plane that was given never changes."""

    def __init__(self, base: Matrix) -> None:
        self._base = base
        self._tail: Matrix = np.zeros((0, base.shape[1]), np.float32)
        self._over: dict[int, Vector] = {}
        self._given = 0  # rows of the largest plane that somebody may hold

    @property
    def size(self) -> int:
        return int(self._base.shape[1])

    def grow(self, n: int) -> None:
        """Room for n rows, zero so far."""
        more = n - len(self._base) - len(self._tail)
        if more > 0:
            self._tail = np.concatenate([self._tail, np.zeros((more, self.size), np.float32)])

    def put(self, found: Mapping[int, Vector]) -> None:
        """Vectors by row, below what `grow` made room for. A vector that stays the same costs nothing."""
        m = len(self._base)
        new = {r: v for r, v in found.items() if not np.array_equal(self._row(r), v)}
        if any(m <= r < self._given for r in new):
            self._tail = self._tail.copy()
        for r, v in new.items():
            if r < m:
                self._over[r] = v
            else:
                self._tail[r - m] = v
        if len(self._over) > max(MOST_OVER, m // 10):
            self._base = self.at(m).whole()
            self._over = {}

    def fill(self, rows: Rows, vectors: Matrix) -> None:
        """The same for many rows of a surface that nobody has seen yet: rows int32 [k], vectors float32 [k, size]."""
        m = len(self._base)
        inside = rows < m
        mine, theirs = rows[inside], vectors[inside]
        changed = (self._base[mine] != theirs).any(axis=1)
        self._tail[rows[~inside] - m] = vectors[~inside]
        self.put(dict(zip(mine[changed].tolist(), theirs[changed], strict=True)))

    def at(self, n: int) -> Plane:
        """The first n rows as they are now."""
        self._given = max(self._given, n)
        m = min(n, len(self._base))
        rows = np.array(sorted(r for r in self._over if r < m), np.int32)
        over = np.array([self._over[r] for r in rows.tolist()], np.float32).reshape(len(rows), self.size)
        return Plane(self._base[:m], self._tail[: n - m], rows, over)

    def _row(self, r: int) -> Vector:
        m = len(self._base)
        return self._over[r] if r in self._over else self._base[r] if r < m else self._tail[r - m]


def surface(n: int, rows: Rows, vectors: Matrix, base: Matrix | None = None) -> Surface:
    """Of n rows: `vectors` [k, size] on `rows` int32 [k], zero elsewhere; of `base` what differs is kept beside it."""
    size = vectors.shape[1] if len(vectors) else 0 if base is None else base.shape[1]
    usable = base is not None and base.shape[1] == size
    made = Surface(base if base is not None and usable else np.zeros((0, size), np.float32))
    made.grow(n)
    keep = rows < n
    if size and len(rows):
        made.fill(rows[keep], vectors[keep])
    return made
