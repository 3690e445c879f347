"""Embedded vectors: SQLite is the truth; a search reads it once and keeps a FAISS index until a write comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ray_app.errors import NotFound
from ray_app.sqlite import SqliteFile
from ray_app.stores.base import LIVE, writable
from ray_app.types import Mask, Matrix, Rows, Scores

T = TypeVar("T")
SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
  tenant TEXT, space TEXT, row INTEGER, vector BLOB, PRIMARY KEY (tenant, space, row)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writes (
  tenant TEXT, space TEXT, n INTEGER, PRIMARY KEY (tenant, space)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live (tenant TEXT PRIMARY KEY, space TEXT) WITHOUT ROWID;
"""


class SqliteVectors:
    """Exact search by inner product. `writes` counts per space, so that every process sees another's."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA)
        self._held: dict[tuple[str, str], tuple[int, Rows, Matrix]] = {}

    async def upsert(self, tenant: str, space: str, rows: Rows, vectors: Matrix) -> None:
        writable(space)
        lines = [
            (tenant, space, int(r), v.tobytes()) for r, v in zip(rows, np.asarray(vectors, np.float32), strict=True)
        ]

        def work(c: sqlite3.Connection) -> None:
            c.executemany("INSERT OR REPLACE INTO vectors VALUES (?,?,?,?)", lines)
            _count(c, tenant, space)

        await self._file.write(work)

    async def delete(self, tenant: str, space: str, rows: Rows) -> None:
        writable(space)

        def work(c: sqlite3.Connection) -> None:
            lines = [(tenant, space, int(r)) for r in rows]
            c.executemany("DELETE FROM vectors WHERE tenant=? AND space=? AND row=?", lines)
            _count(c, tenant, space)

        await self._file.write(work)

    async def load(self, tenant: str, space: str) -> tuple[Rows, Matrix]:
        return await self._file.do(lambda c: _at_once(c, lambda: _load(c, tenant, _named(c, tenant, space))))

    async def search(
        self, tenant: str, space: str, query: Matrix, n: int, allowed: Mask | None = None
    ) -> tuple[Rows, Scores]:
        import faiss

        rows, vectors = await self._fresh(tenant, space)
        if allowed is not None:
            known = int(np.searchsorted(rows, len(allowed)))  # a row that came after the mask is not allowed
            keep = np.flatnonzero(allowed[rows[:known]])
            rows, vectors = rows[keep], vectors[keep]
        if not len(rows):
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        scores, found = faiss.knn(
            query.reshape(1, -1), np.ascontiguousarray(vectors), min(n, len(rows)), metric=faiss.METRIC_INNER_PRODUCT
        )
        return rows[found[0]], scores[0]

    async def _fresh(self, tenant: str, space: str) -> tuple[Rows, Matrix]:
        def work(c: sqlite3.Connection) -> tuple[int, Rows, Matrix]:
            named = _named(c, tenant, space)
            row = c.execute("SELECT n FROM writes WHERE tenant=? AND space=?", (tenant, named)).fetchone()
            held, n = self._held.get((tenant, named)), int(row[0]) if row else 0
            if held is None or held[0] != n:
                held = self._held[tenant, named] = (n, *_load(c, tenant, named))
            return held

        _, rows, vectors = await self._file.do(lambda c: _at_once(c, lambda: work(c)))
        return rows, vectors

    async def promote(self, tenant: str, space: str) -> None:
        writable(space)

        def work(c: sqlite3.Connection) -> None:
            written = "SELECT 1 FROM vectors WHERE tenant=? AND space=? LIMIT 1"
            if not c.execute(written, (tenant, space)).fetchone():
                raise NotFound(f"tenant {tenant!r} has no vectors in space {space!r}", field="space", value=space)
            c.execute("INSERT OR REPLACE INTO live VALUES (?,?)", (tenant, space))

        await self._file.write(work)

    async def drop(self, tenant: str, space: str) -> None:
        writable(space)

        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM vectors WHERE tenant=? AND space=?", (tenant, space))
            c.execute("DELETE FROM live WHERE tenant=? AND space=?", (tenant, space))
            _count(c, tenant, space)

        await self._file.write(work)
        self._held.pop((tenant, space), None)

    async def version(self) -> str:
        import faiss

        await self._file.do(lambda c: c.execute("SELECT count(*) FROM live"))  # a file that cannot be read is away
        return f"SQLite {sqlite3.sqlite_version}, FAISS {faiss.__version__}"

    async def close(self) -> None:
        await self._file.close()


def _at_once(c: sqlite3.Connection, read: Callable[[], T]) -> T:
    """All that `read` reads is of one moment: a space that it names is not dropped before it is read."""
    c.execute("BEGIN")
    try:
        return read()
    finally:
        c.execute("COMMIT")


def _load(c: sqlite3.Connection, tenant: str, space: str) -> tuple[Rows, Matrix]:
    query = "SELECT row, vector FROM vectors WHERE tenant=? AND space=? ORDER BY row"
    found = c.execute(query, (tenant, space)).fetchall()
    if not found:
        return np.zeros(0, np.int32), np.zeros((0, 0), np.float32)
    vectors = np.frombuffer(b"".join(v for _, v in found), np.float32).reshape(len(found), -1)
    return np.array([r for r, _ in found], np.int32), vectors


def _named(c: sqlite3.Connection, tenant: str, space: str) -> str:
    """LIVE as the space that it names; "" before the first promotion."""
    if space != LIVE:
        return space
    row = c.execute("SELECT space FROM live WHERE tenant=?", (tenant,)).fetchone()
    return str(row[0]) if row else ""


def _count(c: sqlite3.Connection, tenant: str, space: str) -> None:
    c.execute("INSERT INTO writes VALUES (?,?,1) ON CONFLICT DO UPDATE SET n = n + 1", (tenant, space))
