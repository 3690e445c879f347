"""Text vectors on a base that replicas share, with what was written since beside it."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.catalog.plane import MOST_OVER, Plane, surface
from ray_app.types import Matrix, Rows

NONE = np.zeros(0, np.int32)


def some(n: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


def rows(n: int) -> Rows:
    return np.arange(n, dtype=np.int32)


def same(plane: Plane, wanted: Matrix) -> bool:
    """By every way to read it."""
    query = np.array([1.0, -2.0, 0.5], np.float32)
    shuffled = np.random.default_rng(1).permutation(len(wanted)).astype(np.int32)
    return bool(
        len(plane) == len(wanted)
        and np.array_equal(plane.whole(), wanted)
        and np.array_equal(plane.take(shuffled), wanted[shuffled])
        and np.allclose(plane.scores(query), wanted @ query, atol=1e-6)
    )


@pytest.mark.parametrize("covers", [0, 1, 4, 6])
def test_a_base_and_what_lies_behind_it_are_one(covers: int) -> None:
    wanted = some(6)
    assert same(surface(6, rows(6), wanted, wanted[:covers].copy()).at(6), wanted)


def test_of_the_base_only_what_differs_is_kept_beside_it() -> None:
    base, wanted = some(6), some(6)
    wanted[[1, 4]] = [[1, 2, 3], [4, 5, 6]]
    plane = surface(6, rows(6), wanted, base).at(6)
    assert same(plane, wanted)
    assert np.shares_memory(plane.base, base)
    assert (plane.rows.tolist(), len(plane.tail)) == ([1, 4], 0)


def test_rows_that_are_not_said_are_zero_or_as_the_base_has_them() -> None:
    base = some(2)
    plane = surface(4, np.array([3], np.int32), np.ones((1, 3), np.float32), base).at(4)
    assert same(plane, np.concatenate([base, [[0, 0, 0], [1, 1, 1]]]).astype(np.float32))


def test_a_base_of_another_size_is_left_alone() -> None:
    wanted = some(3)
    assert same(surface(3, rows(3), wanted, np.ones((3, 2), np.float32)).at(3), wanted)


def test_a_plane_that_was_given_never_changes() -> None:
    base, wanted = some(4), np.concatenate([some(4), some(3, 5)])
    made = surface(7, rows(7), wanted, base)
    given = made.at(7)
    made.put({0: np.ones(3, np.float32), 5: np.ones(3, np.float32)})
    made.grow(9)
    made.put({8: np.ones(3, np.float32)})
    assert same(given, wanted)
    after = np.concatenate([wanted, np.zeros((2, 3), np.float32)])
    after[[0, 5, 8]] = 1
    assert same(made.at(9), after)


def test_an_equal_vector_costs_no_copy() -> None:
    made = surface(3, rows(3), some(3))
    given = made.at(3)
    made.put({1: some(3)[1]})
    assert np.shares_memory(made.at(3).tail, given.tail)


def test_fewer_rows_than_the_base_has() -> None:
    assert same(surface(6, NONE, np.zeros((0, 0), np.float32), some(6)).at(4), some(6)[:4])


def test_a_base_that_is_mostly_replaced_is_written_anew() -> None:
    n = MOST_OVER + 1
    made = surface(n, rows(n), some(n), some(n))
    made.put(dict(enumerate(some(n, 7))))
    plane = made.at(n)
    assert same(plane, some(n, 7))
    assert len(plane.rows) == 0
