"""Entities that are alike by their labels: nearly the exact answer, in time that does not grow with the square."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from bench.alike import How, alike, rare, unit


def entities(n: int, labels: int, each: int, seed: int = 0) -> Any:
    drawn, often = np.random.default_rng(seed), np.cumsum(1.0 / np.arange(1, labels + 1))
    found = np.searchsorted(often / often[-1], drawn.random(n * each)).astype(np.int32)
    made = sp.csr_matrix((np.ones(n * each, np.float32), found, np.arange(0, n * each + 1, each)), (n, labels))
    made.sum_duplicates()
    return made


def exact(vectors: Any) -> np.ndarray[Any, Any]:
    found = (vectors @ vectors.T).toarray()
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def test_weights_are_the_exact_cosine_of_those_found_best_first() -> None:
    vectors = unit(entities(600, 200, 8))
    how = How(k=10, budget=300, candidates=40)
    columns, weights = alike(vectors, rare(vectors, how), how)
    whole = exact(vectors)
    rows = np.arange(600)[:, None]
    assert np.allclose(weights, np.where(weights > 0, whole[rows, columns], 0.0), atol=1e-5)
    assert (np.diff(weights, axis=1) <= 0).all()
    assert (columns[weights > 0] != np.broadcast_to(rows, columns.shape)[weights > 0]).all()


def test_nearly_all_of_the_exact_answer_is_found_of_a_part_of_the_pairs() -> None:
    vectors = unit(entities(4000, 1000, 12))
    how = How(k=20, budget=1500, candidates=120)
    lists = rare(vectors, how)
    _, weights = alike(vectors, lists, how)
    last = np.sort(exact(vectors), axis=1)[:, -how.k]
    assert ((weights >= last[:, None] - 1e-5) & (weights > 0)).mean() > 0.9
    every = (vectors.astype(bool).astype(np.int64) @ vectors.astype(bool).T.astype(np.int64)).sum()
    assert lists.cost().sum() < every / 2
    assert lists.cost().max() <= how.budget


def test_parts_are_those_of_the_whole() -> None:
    vectors = unit(entities(500, 100, 6))
    how = How(k=5, budget=200, candidates=30)
    lists = rare(vectors, how)
    whole = alike(vectors, lists, how)
    parts = [alike(vectors, lists, how, a, a + 100) for a in range(0, 500, 100)]
    for k in (0, 1):
        assert np.array_equal(np.concatenate([p[k] for p in parts]), whole[k])


def test_a_label_that_everybody_has_is_read_within_the_budget() -> None:
    labels = sp.csr_matrix(np.ones((400, 1), np.float32))
    vectors = unit(labels)
    how = How(k=5, budget=50, candidates=20)
    lists = rare(vectors, how)
    assert lists.cost().max() == 50
    assert (alike(vectors, lists, how)[1] > 0.99).all()


@pytest.mark.parametrize("rows", [[], [[]], [[], [0], [], [0]], [[0], [1]]])
def test_entities_without_labels_or_company_have_nobody(rows: list[list[int]]) -> None:
    made = sp.csr_matrix(np.array([[float(k in labels) for k in range(3)] for labels in rows]).reshape(len(rows), 3))
    vectors = unit(made)
    columns, weights = alike(vectors, rare(vectors, How(k=2)), How(k=2))
    assert columns.shape == weights.shape == (len(rows), 2)
    shared = [[1, 3]] if len(rows) == 4 else []
    assert [np.flatnonzero(weights.any(axis=1)).tolist()] == (shared or [[]])
