"""Many vectors searched by inner product: all of them, or by an index of FAISS where there are so many that it wins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.types import Mask, Matrix, Rows, Scores

LEAST_ROWS = 50_000  # below, one product of all is as fast (figures: docs/benchmarks.md)
LEAST_RECALL, AT = 0.95, 100  # of the AT nearest that brute force finds, before an index may serve
MOST_PROBED = 1 / 3  # of the cells: an index that must look at more saves nothing
RARE = 0.05  # a mask that allows fewer is searched without the index
ASKED, SEED = 200, 7
Bytes = NDArray[np.uint8]


def build(vectors: Matrix, least: int = LEAST_ROWS) -> tuple[Bytes, int] | None:
    """The bytes of an inverted file (Jégou et al., 2011) of `vectors` [n, d] and how many of its cells to look at for
    a recall of LEAST_RECALL against brute force. None below `least` rows, and where that takes too many cells."""
    if len(vectors) < least:
        return None
    faiss = _faiss()
    cells = int(4 * np.sqrt(len(vectors)))
    size = vectors.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid = SEED, 10, 1
    index.train(vectors)
    index.add(vectors)
    asked = np.random.default_rng(SEED).choice(vectors, min(ASKED, len(vectors)), replace=False)
    _, truth = faiss.knn(asked, vectors, AT, metric=faiss.METRIC_INNER_PRODUCT)
    probed = 8
    while probed <= cells * MOST_PROBED:
        _, found = index.search(asked, AT, params=faiss.SearchParametersIVF(nprobe=probed))
        if np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]) >= LEAST_RECALL * AT:
            return faiss.serialize_index(index), probed
        probed *= 2
    return None


def _faiss() -> Any:
    import faiss

    return faiss


class Search:
    """Of vectors float32 [m, d], with the index that `build` made of them or without one."""

    def __init__(self, vectors: Matrix, built: tuple[Bytes, int] | None = None) -> None:
        self._vectors, self.built = vectors, built
        self._index: Any = None
        if built is not None:
            self._index = _faiss().deserialize_index(np.array(built[0]))

    def best(self, query: Scores, n: int, allowed: Mask) -> tuple[Rows, Scores]:
        """Allowed rows, among them the n with the greatest product with `query` [d], and those products, in no order;
        `allowed` bool [m]. With an index a few of the n may be others."""
        share = np.count_nonzero(allowed) / max(1, len(allowed))
        if self._index is None or share < RARE:
            rows = np.flatnonzero(allowed).astype(np.int32)
            few = len(rows) < len(allowed) // 2
            return rows, self._vectors[rows] @ query if few else (self._vectors[: len(allowed)] @ query)[rows]
        assert self.built is not None
        faiss = _faiss()
        bits = np.packbits(allowed, bitorder="little")
        probed = math.ceil(self.built[1] / share)  # the more a mask leaves out, the more cells hold as many
        how = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(bits), nprobe=probed)
        found, near = self._index.search(query[None], n, params=how)
        keep = near[0] >= 0
        return near[0][keep].astype(np.int32), found[0][keep]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The index, where there is one: it travels with its version."""
        return {} if self.built is None else {"index": self.built[0], "probed": np.array([self.built[1]])}


def built_of(arrays: Any) -> tuple[Bytes, int] | None:
    """What `Search.arrays` wrote."""
    return (arrays["index"], int(arrays["probed"][0])) if "index" in arrays else None
