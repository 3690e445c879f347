"""Many vectors searched by inner product: all of them, or by an index of FAISS where there are so many that it wins."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ray_app.models.top import pick
from ray_app.types import Mask, Matrix, Rows, Scores

LEAST_ROWS = 50_000  # below, one product of all is quick enough (figures: docs/benchmarks.md)
SMALL = 1_000_000  # numbers: up to here FAISS, which takes 30 MB of each process, is not loaded
LEAST_RECALL, AT = 0.95, 100  # of the AT nearest that brute force finds, before an index may serve
MOST_PROBED = 1 / 3  # of the cells: an index that must look at more saves nothing
SHARES = (1.0, 0.7, 0.5, 0.3, 0.1, 0.03)  # of the rows, at random; below the last, no index
DEARER = 6  # an allowed row without the index costs as much as so many that the index passes by
ASKED, FIRST, STEP, SEED = 200, 8, 1.25, 7
Built: TypeAlias = "tuple[NDArray[np.uint8], NDArray[np.int64]]"


def build(vectors: Matrix, least: int = LEAST_ROWS) -> Built | None:
    """The bytes of an inverted file (Jégou et al., 2011) of `vectors` [n, d] and how many of its cells to look at for
    a recall of LEAST_RECALL against brute force under a mask of each of SHARES; all of them where that takes so many
    that the index does not pay. None below `least` rows, and where it does not pay without a mask."""
    if len(vectors) < least:
        return None
    faiss = _faiss()
    cells = int(4 * np.sqrt(len(vectors)))
    size = vectors.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid = SEED, 10, 1
    index.train(vectors)
    index.add(vectors)
    drawn = np.random.default_rng(SEED)
    asked = drawn.choice(vectors, min(ASKED, len(vectors)), replace=False)
    probed = [FIRST]
    for share in SHARES:
        probed.append(_enough(index, vectors, asked, drawn.random(len(vectors)) < share, probed[-1]))
        if probed[1] > cells * MOST_PROBED:
            return None
    return faiss.serialize_index(index), np.array(probed[1:])


def _enough(index: Any, vectors: Matrix, asked: Matrix, allowed: Mask, probed: int) -> int:
    """How many cells, not fewer than `probed`; all of them where the rows of the mask are cheaper one by one."""
    faiss, rows = _faiss(), np.flatnonzero(allowed)
    wanted = min(AT, len(rows))
    _, truth = faiss.knn(asked, vectors[rows], wanted, metric=faiss.METRIC_INNER_PRODUCT)
    bits = np.packbits(allowed, bitorder="little")
    while probed <= index.nlist * min(1.0, DEARER * len(rows) / len(vectors)):
        how = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(bits), nprobe=probed)
        _, found = index.search(asked, wanted, params=how)
        both = [len(np.intersect1d(a, b)) for a, b in zip(found, rows[truth], strict=True)]
        if np.mean(both) >= LEAST_RECALL * wanted:
            return probed
        probed = math.ceil(STEP * probed)
    return int(index.nlist)


def _faiss() -> Any:
    import faiss

    return faiss


@cache
def _looking(probed: int) -> Any:
    """Made once: to make it takes a tenth of a search."""
    return _faiss().SearchParametersIVF(nprobe=probed)


class Search:
    """Of vectors float32 [m, d], with the index that `build` made of them or without one."""

    def __init__(self, vectors: Matrix, built: Built | None = None) -> None:
        self._vectors, self.built = np.ascontiguousarray(vectors, np.float32), built
        self._index: Any = None
        if built is not None:
            self._index = _faiss().deserialize_index(np.array(built[0]))
            self._probed, self._cells = [int(p) for p in built[1]], int(self._index.nlist)

    def best(self, query: Scores, n: int, allowed: Mask) -> tuple[Rows, Scores]:
        """The n allowed rows with the greatest product with `query` [d], and those products, best first; fewer where
        fewer are allowed. `allowed` bool [at most m]. With an index a few of the n may be others."""
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != self._vectors.shape[1:]:
            raise ValueError(f"the query is {query.shape}, the vectors are {self._vectors.shape}")
        if self._index is None and self._vectors.size <= SMALL:
            rows = np.flatnonzero(allowed)
            return pick(rows, (self._vectors[: len(allowed)] @ query)[rows], n)
        m = len(self._vectors)
        out = 0 if len(allowed) == m and allowed.all() else m - int(np.count_nonzero(allowed))
        probed, got = self.cells(n, out), None
        if out <= n and len(allowed) == m:  # so few that to leave them out afterwards is cheaper than on the way
            got = self._nearest(query, min(n + out, m), None if probed is None else _looking(probed))
            got = _kept(*got, n, allowed) if out else got
        elif probed is not None:
            got = self._masked(query, n, allowed, probed)
        return got if got is not None and len(got[0]) >= min(n, m - out) else self._each(query, n, allowed)

    def cells(self, n: int, out: int) -> int | None:
        """How many to look at for n rows where `out` are not allowed: what was measured for more and for fewer, on a
        line between their logarithms. None where all that is allowed is better read row by row. Those left out may be
        the very nearest, as what a visitor knows is: then this is a search for the nearest n + out."""
        if self._index is None:
            return None
        if not out:
            return self._probed[0]
        share = min(1.0 - out / len(self._vectors), n / (n + min(n, out)))
        if share < SHARES[-1]:
            return None
        k = next(k for k in range(1, len(SHARES)) if share >= SHARES[k])
        way = math.log(SHARES[k - 1] / share) / math.log(SHARES[k - 1] / SHARES[k])
        looked = math.ceil(self._probed[k - 1] ** (1.0 - way) * self._probed[k] ** way - 1e-6)
        return looked if looked <= self._cells * DEARER * share else None

    def _nearest(self, query: Scores, n: int, how: Any) -> tuple[Rows, Scores]:
        """By FAISS's own functions on the arrays as they lie: its Python side costs a tenth of a search."""
        faiss = _faiss()
        found, rows, at = np.empty(n, np.float32), np.empty(n, np.int64), faiss.swig_ptr
        if self._index is None:
            m, d = self._vectors.shape
            faiss.knn_inner_product(at(query), at(self._vectors), d, 1, m, n, at(found), at(rows))
        else:
            self._index.search_c(1, at(query), n, at(found), at(rows), how)
        if rows[-1] < 0:  # the cells held fewer
            found, rows = found[rows >= 0], rows[rows >= 0]
        return rows.astype(np.int32), found

    def _masked(self, query: Scores, n: int, allowed: Mask, probed: int) -> tuple[Rows, Scores]:
        faiss = _faiss()
        bits = np.packbits(allowed, bitorder="little")
        how, only = faiss.SearchParametersIVF(), faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        how.nprobe, how.sel = probed, only
        return self._nearest(query, n, how)

    def _each(self, query: Scores, n: int, allowed: Mask) -> tuple[Rows, Scores]:
        """Every allowed row, read where it lies."""
        faiss, rows = _faiss(), np.flatnonzero(allowed)
        found, at = np.empty(len(rows), np.float32), faiss.swig_ptr
        d = self._vectors.shape[1]
        if len(rows):
            faiss.fvec_inner_products_by_idx(at(found), at(query), at(self._vectors), at(rows), d, 1, len(rows))
        return pick(rows, found, n)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The index, where there is one: it travels with its version."""
        return {} if self.built is None else {"index": self.built[0], "probed": self.built[1]}


def _kept(rows: Rows, found: Scores, n: int, allowed: Mask) -> tuple[Rows, Scores]:
    keep = allowed[rows]
    return rows[keep][:n], found[keep][:n]


def built_of(arrays: Any) -> Built | None:
    """What `Search.arrays` wrote; an index that was measured for other shares is not used."""
    usable = "index" in arrays and len(arrays["probed"]) == len(SHARES)
    return (arrays["index"], arrays["probed"]) if usable else None
