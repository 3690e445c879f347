"""The port Vectors, held by every adapter."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from ray_app.errors import InvalidField, NotFound
from ray_app.stores.base import LIVE, Vectors
from ray_app.stores.milvus import MilvusVectors
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.types import Matrix, Rows

ADAPTERS = ("sqlite", "milvus")


@pytest.fixture(params=ADAPTERS)
async def open_vectors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], Vectors]]:
    """Every call opens the same vectors once more, as another process would."""
    opened: list[Vectors] = []
    url = request.getfixturevalue("milvus_url") if request.param == "milvus" else ""
    prefix = f"lemo-{uuid.uuid4().hex[:8]}"

    def call() -> Vectors:
        opened.append(MilvusVectors(url, prefix) if url else SqliteVectors(tmp_path / "vectors.db"))
        return opened[-1]

    yield call
    await asyncio.gather(*(o.close() for o in opened))


@pytest.fixture
def vectors(open_vectors: Callable[[], Vectors]) -> Vectors:
    return open_vectors()


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


async def test_another_process_sees_what_was_written(open_vectors: Callable[[], Vectors]) -> None:
    """Two objects stand for two processes: nothing but the store is between them."""
    reader, writer, given = open_vectors(), open_vectors(), unit(4)
    await writer.upsert("t", "v1", rows(0, 1), given[:2])
    assert (await reader.search("t", "v1", given[0], 1))[0].tolist() == [0]
    await writer.upsert("t", "v1", rows(2, 3), given[2:])
    assert (await reader.search("t", "v1", given[3], 1))[0].tolist() == [3]
    await writer.drop("t", "v1")
    assert (await reader.search("t", "v1", given[3], 1))[0].tolist() == []
    await reader.upsert("t", "v1", rows(5), given[:1])
    await writer.upsert("t", "v1", rows(6), given[1:2])
    assert (await reader.load("t", "v1"))[0].tolist() == [5, 6]


async def test_the_first_writers_of_a_space_do_not_meet(open_vectors: Callable[[], Vectors]) -> None:
    several, given = [open_vectors() for _ in range(4)], unit(8)
    await asyncio.gather(*(v.upsert("t", "v1", rows(k, k + 4), given[[k, k + 4]]) for k, v in enumerate(several)))
    held, matrix = await several[0].load("t", "v1")
    assert held.tolist() == list(range(8))
    assert np.array_equal(matrix, given)


async def test_of_a_row_that_comes_twice_the_later_stays(vectors: Vectors) -> None:
    given = unit(3)
    await vectors.upsert("t", "v1", rows(7, 1, 7), given)
    held, matrix = await vectors.load("t", "v1")
    assert held.tolist() == [1, 7]
    assert np.array_equal(matrix, given[1:])


async def test_nothing_is_written_and_nothing_deleted(vectors: Vectors) -> None:
    await vectors.upsert("t", "v1", rows(), unit(0))
    await vectors.delete("t", "v1", rows(3))
    await vectors.drop("t", "v1")
    assert not len((await vectors.load("t", "v1"))[0])


async def test_a_large_space_comes_whole(vectors: Vectors) -> None:
    given = unit(20_000, size=4)
    await vectors.upsert("my-shop", "v1", np.arange(20_000, dtype=np.int32), given)
    held, matrix = await vectors.load("my-shop", "v1")
    assert np.array_equal(held, np.arange(20_000))
    assert np.array_equal(matrix, given)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5])
async def test_a_large_mask_leaves_as_many_as_asked_for(vectors: Vectors, share: float) -> None:
    """Also when the best are the ones that are not allowed."""
    given = unit(10_000)
    await vectors.upsert("t", "v1", np.arange(10_000, dtype=np.int32), given)
    exact = given @ given[7]
    allowed = np.ones(10_000, np.bool_)
    allowed[np.argsort(-exact)[: round(10_000 * (1 - share))]] = False
    found, scores = await vectors.search("t", "v1", given[7], 50, allowed)
    assert np.allclose(scores, np.sort(exact[allowed])[::-1][:50], atol=1e-6)
    assert allowed[found].all()


async def test_live_names_the_promoted_space(vectors: Vectors) -> None:
    given = unit(2)
    await vectors.upsert("my-shop", "v1", rows(0), given[:1])
    await vectors.upsert("my-shop", "v2", rows(1, 2), unit(2, size=8))
    await vectors.upsert("my-shop-2", "v1", rows(9), given[:1])
    assert not len((await vectors.load("my-shop", LIVE))[0])
    await vectors.promote("my-shop", "v1")
    assert (await vectors.load("my-shop", LIVE))[0].tolist() == [0]
    assert (await vectors.search("my-shop", LIVE, given[0], 3))[0].tolist() == [0]
    await vectors.promote("my-shop", "v2")
    await vectors.promote("my-shop", "v2")
    assert (await vectors.load("my-shop", LIVE))[1].shape == (2, 8)
    assert not len((await vectors.load("my-shop-2", LIVE))[0]), "the other tenant promoted nothing"
    await vectors.drop("my-shop", "v1")
    assert (await vectors.load("my-shop", LIVE))[0].tolist() == [1, 2]
    await vectors.drop("my-shop", "v2")
    assert not len((await vectors.load("my-shop", LIVE))[0])


async def test_what_cannot_be_promoted(vectors: Vectors) -> None:
    with pytest.raises(NotFound, match="v9"):
        await vectors.promote("t", "v9")
    for call in (vectors.promote("t", LIVE), vectors.drop("t", LIVE), vectors.upsert("t", LIVE, rows(1), unit(1))):
        with pytest.raises(InvalidField, match="live"):
            await call


async def test_readers_of_the_live_space_see_no_gap_and_no_two_spaces(open_vectors: Callable[[], Vectors]) -> None:
    """As an embedder goes live: written, promoted, the one before dropped."""
    writer, reader, given = open_vectors(), open_vectors(), unit(2)
    seen, done = [], asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            seen.append((await reader.search("t", LIVE, given[0], 5))[0].tolist())
            seen.append((await reader.load("t", LIVE))[0].tolist())

    reading = None
    for k in range(12):
        await writer.upsert("t", f"v{k}", rows(k, k + 100), given)
        await writer.promote("t", f"v{k}")
        reading = reading or asyncio.create_task(read())
        if k:
            await writer.drop("t", f"v{k - 1}")
    done.set()
    assert reading
    await reading
    assert len(seen) > 2
    assert {tuple(sorted(s)) for s in seen} <= {(k, k + 100) for k in range(12)}


async def test_the_peer_says_its_version(vectors: Vectors, capsys: pytest.CaptureFixture[str]) -> None:
    version = await vectors.version()
    with capsys.disabled():
        print(f"\nvectors: {version}")
    assert version.startswith(("SQLite 3.", "Milvus "))
