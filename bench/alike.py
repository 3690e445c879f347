"""Entities that are alike by their labels (tags, categories, words), of which there are too many to compare all pairs.

Exact cosine of label vectors is quadratic: a label that a tenth of all entities have makes a tenth of all pairs. Here a
row's candidates come from the lists of its rarest labels, as many as a budget of list entries allows, as search engines
skip the lists of common words (Broder et al., "Efficient query evaluation using a two-level retrieval process", 2003);
the best of them are scored exactly. Time grows with the number of entities, not with its square.

It stands beside the bench that measures it, since no channel needs it: the channel `tags` scores a request's candidates
directly. A channel of entities that are alike would take it into ray_app/models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.product import MOST_PAIRS, Nearest, Product, best, spans


@dataclass(frozen=True, slots=True)
class How:
    """`budget`: entries of lists that a row reads; `candidates`: of them, the best by the rare labels alone, are scored
    exactly. `rarity`: a label weighs its inverse frequency (Sparck Jones, 1972); without, each weighs the same."""

    k: int = 50
    budget: int = 100_000
    candidates: int = 300
    rarity: bool = True


def unit(labels: Any, rarity: bool = True) -> Any:
    """Rows of length 1, scipy csr float32 [entities, labels]; `labels`: csr, not 0 where an entity has a label."""
    import scipy.sparse as sp

    n = labels.shape[0]
    found = sp.csr_matrix((np.ones(labels.nnz, np.float32), labels.indices, labels.indptr), labels.shape)
    if rarity:
        often = np.bincount(labels.indices, minlength=labels.shape[1])
        found.data = np.log1p(n / np.maximum(often, 1))[labels.indices].astype(np.float32)
    length = np.sqrt(np.add.reduceat(np.append(found.data**2, 0.0), found.indptr[:-1])) if n else np.zeros(0)
    length[np.diff(found.indptr) == 0] = 1.0
    found.data /= np.repeat(length, np.diff(found.indptr)).astype(np.float32)
    return found


def rare(vectors: Any, how: How) -> Product:
    """left: each row's rarest labels within the budget; right: the list of each label, of which a list that is longer
    than the budget keeps the entries that weigh most."""
    import scipy.sparse as sp

    n = vectors.shape[0]
    lists = vectors.T.tocsr()
    often = np.diff(lists.indptr)
    short = np.minimum(often, how.budget)
    for label in np.flatnonzero(often > how.budget):
        inside = slice(lists.indptr[label], lists.indptr[label + 1])
        weak = np.argpartition(-lists.data[inside], how.budget)[how.budget :]
        lists.data[inside][weak] = 0.0
    lists.eliminate_zeros()
    rows = np.repeat(np.arange(n), np.diff(vectors.indptr))
    order = np.lexsort((vectors.indices, often[vectors.indices], rows))
    cost = np.cumsum(short[vectors.indices[order]], dtype=np.int64)
    before = np.concatenate([[0], cost])[vectors.indptr[:-1]]
    first = np.zeros(len(order), np.bool_)
    first[vectors.indptr[:-1][np.diff(vectors.indptr) > 0]] = True
    keep = order[first | (cost - before[rows] <= how.budget)]
    left = sp.csr_matrix((vectors.data[keep], (rows[keep], vectors.indices[keep])), vectors.shape)
    return Product(left, lists)


def alike(vectors: Any, lists: Product, how: How, first: int = 0, last: int | None = None) -> Nearest:
    """Of rows first .. last - 1 the k most alike others, best first: int32 and float32 [last - first, k], weight 0
    where fewer share a label. `vectors` of `unit`, `lists` of `rare`."""
    last = lists.n if last is None else last
    columns, weights = np.zeros((last - first, how.k), np.int32), np.zeros((last - first, how.k), np.float32)
    own = np.zeros(vectors.shape[1], np.float32)
    for start, end in spans(lists.cost(first, last), MOST_PAIRS):
        block = lists.block(first + start, first + end)
        for row in range(end - start):
            inside = slice(block.indptr[row], block.indptr[row + 1])
            near = _strongest(block.indices[inside], block.data[inside], how.candidates + 1)
            found, score = best(near, _exact(vectors, first + start + row, near, own), how.k, first + start + row)
            columns[start + row, : len(found)], weights[start + row, : len(found)] = found, score
    return columns, weights


def _strongest(columns: NDArray[np.int32], scores: NDArray[np.float32], most: int) -> NDArray[np.int32]:
    if len(columns) <= most:
        return columns
    return columns[np.argpartition(scores, len(scores) - most)[len(scores) - most :]]


def _exact(vectors: Any, row: int, near: NDArray[np.int32], own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of `row` and each of `near`, float32; `own`: zeros by label, as it is left again."""
    if not len(near):
        return np.zeros(0, np.float32)
    mine = slice(vectors.indptr[row], vectors.indptr[row + 1])
    own[vectors.indices[mine]] = vectors.data[mine]
    starts, lengths = vectors.indptr[near], vectors.indptr[near + 1] - vectors.indptr[near]
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
    parts = own[vectors.indices[at]] * vectors.data[at]
    own[vectors.indices[mine]] = 0.0
    return np.add.reduceat(parts, ends - lengths)
