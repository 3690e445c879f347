"""Milvus alone: what its URL says, and a server that goes away and comes back."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest

from ray_app.errors import InvalidField, InvalidSettings, Unavailable
from ray_app.stores.base import LIVE, MOST_ANSWERS
from ray_app.stores.milvus import MilvusVectors
from ray_app.types import Matrix, Rows
from tests.services.milvus import MilvusServer

ROWS: Rows = np.arange(3, dtype=np.int32)
VECTORS: Matrix = np.eye(3, 8, dtype=np.float32)


@pytest.fixture
async def vectors(milvus_url: str) -> AsyncIterator[MilvusVectors]:
    opened = MilvusVectors(milvus_url, f"lemo-{uuid.uuid4().hex[:8]}", timeout_s=2)
    yield opened
    await opened.close()


async def test_a_killed_server_is_unavailable_and_loses_nothing(vectors: MilvusVectors, milvus: MilvusServer) -> None:
    await vectors.upsert("t", "v1", ROWS, VECTORS)
    await vectors.promote("t", "v1")
    milvus.kill()
    for call in (vectors.load("t", "v1"), vectors.upsert("t", "v1", ROWS, VECTORS), vectors.version()):
        with pytest.raises(Unavailable, match=rf"Milvus at {milvus.url}"):
            await call
    milvus.start()
    assert (await vectors.search("t", LIVE, VECTORS[1], 1))[0].tolist() == [1]
    held, matrix = await vectors.load("t", "v1")
    assert held.tolist() == [0, 1, 2]
    assert np.array_equal(matrix, VECTORS)
    await vectors.upsert("t", "v1", ROWS[:1] + 9, VECTORS[:1])
    assert (await vectors.load("t", LIVE))[0].tolist() == [0, 1, 2, 9]


async def test_a_server_that_hangs_costs_the_timeout(vectors: MilvusVectors, milvus: MilvusServer) -> None:
    await vectors.upsert("t", "v1", ROWS, VECTORS)
    milvus.freeze()
    began = time.monotonic()
    for call in (vectors.search("t", "v1", VECTORS[0], 1), vectors.upsert("t", "v1", ROWS, VECTORS)):
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await call
    assert time.monotonic() - began < 8
    milvus.thaw()
    assert (await vectors.search("t", "v1", VECTORS[0], 1))[0].tolist() == [0]


async def test_an_error_shows_no_password() -> None:
    away = MilvusVectors("http://root:s3cret%40@127.0.0.1:9/shop", timeout_s=1)
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9/shop") as caught:
        await away.version()
    assert "s3cret" not in str(caught.value) + str(caught.value.__cause__)
    await away.close()
    with pytest.raises(InvalidSettings, match="allowed: http") as refused:
        MilvusVectors("milvus://root:s3cret@127.0.0.1")
    assert "s3cret" not in str(refused.value)


async def test_the_database_of_the_url_is_used(vectors: MilvusVectors, milvus_url: str) -> None:
    other = MilvusVectors(f"{milvus_url}/no_such_database", timeout_s=2)
    with pytest.raises(Exception, match="no_such_database"):
        await other.upsert("t", "v1", ROWS, VECTORS)
    await other.close()


async def test_user_and_password_go_along(milvus_url: str) -> None:
    for given, sent in (("root:p%40ss%3A1@", "root:p@ss:1"), ("token%2F1@", "token/1"), ("", "")):
        opened = MilvusVectors(milvus_url.replace("//", f"//{given}"))
        await opened.version()
        assert opened._client is not None
        assert opened._client._config.token == sent
        await opened.close()


def test_names_are_legal_and_never_meet(milvus_url: str) -> None:
    made = MilvusVectors(milvus_url, "lemo-1")
    pairs = [
        ("my-shop", "v1"),
        ("my", "shop-v1"),
        ("my-shop", "v-1"),
        ("my-shop", LIVE),
        ("0", "x"),
        ("t" * 63, "ü" * 300),
    ]
    names = [made.name(*pair) for pair in pairs] + [MilvusVectors(milvus_url, "9").name("my-shop", "v1")]
    assert len(set(names)) == len(names)
    assert all(n.isascii() and n.isidentifier() and len(n) <= 255 for n in names), names


async def test_more_answers_than_milvus_gives_are_refused(vectors: MilvusVectors) -> None:
    with pytest.raises(InvalidField, match=str(MOST_ANSWERS)):
        await vectors.search("t", "v1", VECTORS[0], MOST_ANSWERS + 1)
