"""The port Vectors, held by every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from ray_app.stores.base import Vectors
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.types import Matrix, Rows

ADAPTERS: dict[str, Callable[[Path], Vectors]] = {"sqlite": lambda folder: SqliteVectors(folder / "vectors.db")}


@pytest.fixture(params=ADAPTERS)
async def vectors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Vectors]:
    opened = ADAPTERS[request.param](tmp_path)
    yield opened
    await opened.close()


def rows(*values: int) -> Rows:
    return np.array(values, np.int32)


def unit(n: int, size: int = 16, seed: int = 1) -> Matrix:
    drawn = np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


async def test_an_empty_space(vectors: Vectors) -> None:
    held, matrix = await vectors.load("t", "v1")
    assert (held.dtype, held.shape, matrix.dtype, matrix.shape) == (np.int32, (0,), np.float32, (0, 0))
    found, scores = await vectors.search("t", "v1", unit(1)[0], 5)
    assert (found.dtype, len(found), scores.dtype, len(scores)) == (np.int32, 0, np.float32, 0)


async def test_all_rows_come_back_ascending_and_to_the_bit(vectors: Vectors) -> None:
    given = unit(2_500)
    order = np.random.default_rng(0).permutation(2_500).astype(np.int32)
    await vectors.upsert("t", "v1", order, given[order])
    held, matrix = await vectors.load("t", "v1")
    assert held.dtype == np.int32
    assert np.array_equal(held, np.arange(2_500))
    assert np.array_equal(matrix, given)


async def test_a_search_is_the_exact_inner_product_best_first(vectors: Vectors) -> None:
    given = unit(500)
    await vectors.upsert("t", "v1", np.arange(500, dtype=np.int32), given)
    found, scores = await vectors.search("t", "v1", given[7], 10)
    exact = given @ given[7]
    assert found[0] == 7
    assert (found.dtype, scores.dtype) == (np.int32, np.float32)
    assert np.array_equal(found, np.argsort(-exact)[:10])
    assert np.allclose(scores, exact[found], atol=1e-6)


async def test_fewer_rows_than_asked_for(vectors: Vectors) -> None:
    await vectors.upsert("t", "v1", rows(3, 9), unit(2))
    found, _ = await vectors.search("t", "v1", unit(2)[0], 10)
    assert found.tolist() == [3, 9]


async def test_only_allowed_rows_are_found_however_rare(vectors: Vectors) -> None:
    given = unit(1_000)
    await vectors.upsert("t", "v1", np.arange(1_000, dtype=np.int32), given)
    allowed = np.zeros(1_000, np.bool_)
    allowed[[5, 600]] = True
    found, _ = await vectors.search("t", "v1", given[0], 10, allowed)
    assert set(found.tolist()) == {5, 600}
    found, _ = await vectors.search("t", "v1", given[0], 10, np.zeros(1_000, np.bool_))
    assert not len(found)


async def test_rows_newer_than_the_mask_are_not_allowed(vectors: Vectors) -> None:
    await vectors.upsert("t", "v1", rows(0, 1, 50), unit(3))
    found, _ = await vectors.search("t", "v1", unit(3)[2], 10, np.ones(2, np.bool_))
    assert set(found.tolist()) == {0, 1}


async def test_a_write_replaces_and_a_delete_removes(vectors: Vectors) -> None:
    first, second = unit(3, seed=1), unit(3, seed=2)
    await vectors.upsert("t", "v1", rows(0, 1, 2), first)
    await vectors.upsert("t", "v1", rows(1), second[1:2])
    await vectors.delete("t", "v1", rows(2, 77))
    held, matrix = await vectors.load("t", "v1")
    assert held.tolist() == [0, 1]
    assert np.array_equal(matrix, np.stack([first[0], second[1]]))


async def test_a_search_sees_the_writes_before_it(vectors: Vectors) -> None:
    given = unit(3)
    await vectors.upsert("t", "v1", rows(0, 1), given[:2])
    await vectors.search("t", "v1", given[2], 1)
    await vectors.upsert("t", "v1", rows(2), given[2:])
    assert (await vectors.search("t", "v1", given[2], 1))[0].tolist() == [2]
    await vectors.delete("t", "v1", rows(2))
    assert (await vectors.search("t", "v1", given[2], 3))[0].tolist() != [2]


async def test_tenants_and_spaces_are_apart_and_a_space_is_dropped_alone(vectors: Vectors) -> None:
    for tenant, space, size in (("t", "v1", 16), ("t", "v2", 32), ("u", "v1", 16)):
        await vectors.upsert(tenant, space, rows(0, 1), unit(2, size))
    await vectors.drop("t", "v1")
    assert len((await vectors.load("t", "v1"))[0]) == 0
    assert len((await vectors.search("t", "v1", unit(1)[0], 3))[0]) == 0
    assert (await vectors.load("t", "v2"))[1].shape == (2, 32)
    assert (await vectors.load("u", "v1"))[1].shape == (2, 16)


async def test_sqlite_shows_the_writes_of_another_process(tmp_path: Path) -> None:
    """Two objects stand for two processes: nothing but the file is between them."""
    reader, writer, given = SqliteVectors(tmp_path / "v.db"), SqliteVectors(tmp_path / "v.db"), unit(4)
    await writer.upsert("t", "v1", rows(0, 1), given[:2])
    assert (await reader.search("t", "v1", given[0], 1))[0].tolist() == [0]
    await writer.upsert("t", "v1", rows(2, 3), given[2:])
    assert (await reader.search("t", "v1", given[3], 1))[0].tolist() == [3]
    await writer.drop("t", "v1")
    assert (await reader.search("t", "v1", given[3], 1))[0].tolist() == []
    await reader.close()
    await writer.close()
