"""Embedded vectors: SQLite is the truth; a search reads it once and keeps a FAISS index until a write comes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from ray_app.sqlite import SqliteFile
from ray_app.types import Mask, Matrix, Rows, Scores

SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
  tenant TEXT, space TEXT, row INTEGER, vector BLOB, PRIMARY KEY (tenant, space, row)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writes (
  tenant TEXT, space TEXT, n INTEGER, PRIMARY KEY (tenant, space)) WITHOUT ROWID;
"""


class SqliteVectors:
    """Exact search by inner product. `writes` counts per space, so that every process sees another's."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA)
        self._held: dict[tuple[str, str], tuple[int, Rows, Matrix]] = {}

    async def upsert(self, tenant: str, space: str, rows: Rows, vectors: Matrix) -> None:
        lines = [
            (tenant, space, int(r), v.tobytes()) for r, v in zip(rows, np.asarray(vectors, np.float32), strict=True)
        ]

        def work(c: sqlite3.Connection) -> None:
            c.executemany("INSERT OR REPLACE INTO vectors VALUES (?,?,?,?)", lines)
            _count(c, tenant, space)

        await self._file.write(work)

    async def delete(self, tenant: str, space: str, rows: Rows) -> None:
        def work(c: sqlite3.Connection) -> None:
            lines = [(tenant, space, int(r)) for r in rows]
            c.executemany("DELETE FROM vectors WHERE tenant=? AND space=? AND row=?", lines)
            _count(c, tenant, space)

        await self._file.write(work)

    async def load(self, tenant: str, space: str) -> tuple[Rows, Matrix]:
        query = "SELECT row, vector FROM vectors WHERE tenant=? AND space=? ORDER BY row"
        found = await self._file.do(lambda c: c.execute(query, (tenant, space)).fetchall())
        if not found:
            return np.zeros(0, np.int32), np.zeros((0, 0), np.float32)
        vectors = np.frombuffer(b"".join(v for _, v in found), np.float32).reshape(len(found), -1)
        return np.array([r for r, _ in found], np.int32), vectors

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
        query = "SELECT n FROM writes WHERE tenant=? AND space=?"
        row = await self._file.do(lambda c: c.execute(query, (tenant, space)).fetchone())
        n = int(row[0]) if row else 0
        held = self._held.get((tenant, space))
        if held is None or held[0] != n:
            held = (n, *await self.load(tenant, space))
            self._held[tenant, space] = held
        return held[1], held[2]

    async def drop(self, tenant: str, space: str) -> None:
        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM vectors WHERE tenant=? AND space=?", (tenant, space))
            _count(c, tenant, space)

        await self._file.write(work)

    async def close(self) -> None:
        await self._file.close()


def _count(c: sqlite3.Connection, tenant: str, space: str) -> None:
    c.execute("INSERT INTO writes VALUES (?,?,1) ON CONFLICT DO UPDATE SET n = n + 1", (tenant, space))
