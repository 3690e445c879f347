"""Each row's best columns of a product of two sparse matrices, block by block: memory is bounded by the block, never by
the product, and a row's answer does not depend on where blocks begin, so that parts can be made anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.base import Arrays
from ray_app.types import Matrix

MOST_PAIRS = 8_000_000  # multiplications of a block: at most so many pairs stand in memory, 8 bytes each
CHUNK = 125_000  # columns
Nearest = tuple[NDArray[np.int32], Matrix]


@dataclass(frozen=True)
class Product:
    """left: scipy csr float32 [n, m], right: csr float32 [m, n]; how much j is like i is (left @ right)[i, j]."""

    left: Any
    right: Any

    @property
    def n(self) -> int:
        return int(self.left.shape[0])

    def cost(self, first: int = 0, last: int | None = None) -> NDArray[np.int64]:
        """Multiplications of each of these rows, int64 [last - first]."""
        part = self.left[first:last]
        lengths = np.diff(self.right.indptr).astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths[part.indices], dtype=np.int64)])
        return np.asarray(ends[part.indptr[1:]] - ends[part.indptr[:-1]])

    @cached_property
    def _chunks(self) -> list[Any]:
        """right by columns: sums of more would not stay in a processor's cache, at four times the cost."""
        if self.n <= CHUNK:
            return [self.right]
        by_column = self.right.tocsc()
        return [by_column[:, k : k + CHUNK].tocsr() for k in range(0, self.n, CHUNK)]

    def block(self, first: int, last: int) -> Any:
        """Rows first .. last - 1 of the product, csr."""
        import scipy.sparse as sp

        left = self.left[first:last]
        return sp.hstack([left @ chunk for chunk in self._chunks], format="csr")

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {f"{side}_{part}": getattr(getattr(self, side), part)
                 for side in ("left", "right") for part in ("data", "indices", "indptr")}  # fmt: skip
        return {**found, "shape": np.array(self.left.shape, np.int64)}

    @classmethod
    def load(cls, arrays: Arrays) -> Product:
        """Also of arrays that are mapped from a disk: only what a block needs is read."""
        import scipy.sparse as sp

        n, m = (int(x) for x in arrays["shape"])
        left, right = (
            sp.csr_matrix(
                (arrays[f"{side}_data"], arrays[f"{side}_indices"], arrays[f"{side}_indptr"]), shape, copy=False
            )
            for side, shape in (("left", (n, m)), ("right", (m, n)))
        )
        return cls(left, right)


def nearest(p: Product, k: int, first: int = 0, last: int | None = None) -> Nearest:
    """Of rows first .. last - 1 the k best other columns, best first: int32 and float32 [last - first, k]; weight 0
    where a row has fewer than k. Of equal weights the smaller column first."""
    last = p.n if last is None else last
    columns, weights = np.zeros((last - first, k), np.int32), np.zeros((last - first, k), np.float32)
    for start, end in spans(p.cost(first, last), MOST_PAIRS):
        block = p.block(first + start, first + end)
        for row in range(end - start):
            inside = slice(block.indptr[row], block.indptr[row + 1])
            found, score = best(block.indices[inside], block.data[inside], k, first + start + row)
            columns[start + row, : len(found)], weights[start + row, : len(found)] = found, score
    return columns, weights


def best(columns: Any, scores: Any, k: int, own: int) -> tuple[Any, Any]:
    """The k best of the columns with a score above 0, without `own`, best first."""
    if len(scores) > k + 1:
        keep = np.argpartition(scores, len(scores) - k - 1)[len(scores) - k - 1 :]
        columns, scores = columns[keep], scores[keep]
    keep = (columns != own) & (scores > 0)
    columns, scores = columns[keep], scores[keep]
    order = np.lexsort((columns, -scores))[:k]
    return columns[order], scores[order]


def spans(cost: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Neighbouring rows together, each span of at most `most` multiplications (or of one row)."""
    ends, start, found = np.cumsum(cost), 0, []
    while start < len(cost):
        spent = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, spent + most, side="right")))
        found.append((start, end))
        start = end
    return found
