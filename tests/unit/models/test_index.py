"""The index against brute force: as good as it was promised, only what is allowed, and exact where it cannot help."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.models import index
from ray_app.models.index import Search, build, built_of
from ray_app.types import Mask, Matrix, Rows, Scores

N = 4000


def vectors(n: int = N, spread: float = 0.1) -> Matrix:
    drawn = np.random.default_rng(1)
    centres = drawn.normal(size=(40, 16))
    return (centres[drawn.integers(0, 40, n)] + spread * drawn.normal(size=(n, 16))).astype(np.float32)


def best(search: Search, query: Scores, n: int, allowed: Mask) -> list[int]:
    rows, products = search.best(query, n, allowed)
    order = np.argsort(-products, kind="stable")[:n]
    found: Rows = rows[order]
    return found.tolist()


@pytest.fixture(scope="module")
def indexed() -> Search:
    built = build(vectors(), least=1)
    assert built is not None
    return Search(vectors(), built)


@pytest.mark.parametrize("share", [1.0, 0.98, 0.5, 0.2, 0.06])
def test_an_index_finds_nearly_all_that_brute_force_finds_and_only_what_is_allowed(
    indexed: Search, share: float
) -> None:
    drawn, plain = np.random.default_rng(2), Search(vectors())
    allowed = drawn.random(N) < share
    shared = []
    for query in vectors()[drawn.integers(0, N, 50)]:
        found, truth = best(indexed, query, 100, allowed), best(plain, query, 100, allowed)
        assert allowed[found].all()
        shared.append(len(set(found) & set(truth)) / 100)
    assert np.mean(shared) >= 0.9


def test_a_mask_that_allows_few_is_searched_to_the_last_row(indexed: Search) -> None:
    allowed = np.zeros(N, np.bool_)
    allowed[[3, 77, 1500]] = True
    assert set(best(indexed, vectors()[3], 100, allowed)) == {3, 77, 1500}


@pytest.mark.parametrize("out", [1, 50, 100])
def test_what_is_nearest_may_be_left_out(indexed: Search, out: int) -> None:
    plain, shared = Search(vectors()), []
    for query in vectors()[:30]:
        allowed = np.ones(N, np.bool_)
        allowed[best(plain, query, out, allowed)] = False
        found, truth = best(indexed, query, 100, allowed), best(plain, query, 100, allowed)
        assert allowed[found].all()
        assert len(found) == 100
        shared.append(len(set(found) & set(truth)) / 100)
    assert np.mean(shared) >= 0.9


def test_a_mask_of_rows_that_lie_far_away_is_still_filled(indexed: Search) -> None:
    query = vectors()[3]
    allowed = np.zeros(N, np.bool_)
    allowed[np.argsort(vectors() @ query)[: N // 4]] = True  # none of them in a cell that is looked at
    found = best(indexed, query, 100, allowed)
    assert found == best(Search(vectors()), query, 100, allowed)
    assert len(found) == 100


@pytest.mark.parametrize("left", [2000, 3990, N])
def test_many_numbers_without_an_index_are_searched_as_exactly_as_few(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    search, drawn = Search(vectors()), np.random.default_rng(4)
    allowed = np.zeros(N, np.bool_)
    allowed[drawn.choice(N, left, replace=False)] = True
    for query in vectors()[:20]:
        monkeypatch.setattr(index, "SMALL", 10**9)
        rows, products = search.best(query, 100, allowed)
        monkeypatch.setattr(index, "SMALL", 0)
        again, same = search.best(query, 100, allowed)
        assert again.dtype == rows.dtype == np.int32
        np.testing.assert_allclose(same, products, rtol=1e-5)
        np.testing.assert_allclose(vectors()[again] @ query, same, rtol=1e-4)
        assert allowed[again].all()
        assert len(set(again.tolist())) == 100


def test_a_mask_may_know_fewer_rows_than_there_are_vectors(indexed: Search) -> None:
    query = vectors()[3]
    for search in (indexed, Search(vectors())):
        rows, _ = search.best(query, 100, np.ones(N - 500, np.bool_))
        assert len(rows) == 100
        assert rows.max() < N - 500


def test_a_query_of_another_size_is_refused(indexed: Search) -> None:
    with pytest.raises(ValueError, match="the query is"):
        indexed.best(np.zeros(3, np.float32), 10, np.ones(N, np.bool_))


def test_an_index_comes_back_from_its_arrays(indexed: Search) -> None:
    again, everything = Search(vectors(), built_of(indexed.arrays())), np.ones(N, np.bool_)
    for query in vectors()[:20]:
        assert best(again, query, 50, everything) == best(indexed, query, 50, everything)
    assert built_of(Search(vectors()).arrays()) is None


def test_a_small_catalogue_needs_no_index_and_a_bad_one_never_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(vectors()) is None
    noise = np.random.default_rng(3).normal(size=(N, 64)).astype(np.float32)  # no cell is near: all must be looked at
    assert build(noise, least=1) is None
    monkeypatch.setattr(index, "LEAST_RECALL", 1.01)
    assert build(vectors(), least=1) is None
