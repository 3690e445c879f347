"""The embedded document store: one SQLite file, JSON bodies by (tenant, kind, id)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import orjson

from ray_app.clock import Clock
from ray_app.errors import Unavailable
from ray_app.stores.base import Document, Outcome, Where

T = TypeVar("T")
CHUNK = 1000
SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  tenant TEXT, kind TEXT, id TEXT, version INTEGER, deleted INTEGER, written_at INTEGER, body BLOB,
  PRIMARY KEY (tenant, kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones ON documents (written_at) WHERE deleted = 1;
CREATE TABLE IF NOT EXISTS counters (tenant TEXT, name TEXT, next INTEGER, PRIMARY KEY (tenant, name)) WITHOUT ROWID;
"""
COMPARE = {"eq": "=", "gte": ">=", "lte": "<="}


class SqliteFile:
    """One SQLite file in WAL mode behind one thread, so that no event loop is ever blocked."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path, self._schema = path, schema
        self._thread = ThreadPoolExecutor(1, path.stem)
        self._connection: sqlite3.Connection | None = None

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Raises Unavailable when the file cannot be used."""

        def call() -> T:
            try:
                return work(self._open())
            except (sqlite3.Error, OSError) as e:
                self._connection = None
                raise Unavailable(f"the store {self._path} cannot be used: {e}") from e

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` in one transaction. IMMEDIATE: a deferred one fails with "locked" when two writers meet."""

        def call(c: sqlite3.Connection) -> T:
            c.execute("BEGIN IMMEDIATE")
            try:
                done = work(c)
            except BaseException:
                c.execute("ROLLBACK")
                raise
            c.execute("COMMIT")
            return done

        return await self.do(call)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # the event log is the truth, and it is FULL
            self._connection.executescript(self._schema)
        return self._connection

    async def close(self) -> None:
        def call() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.get_running_loop().run_in_executor(self._thread, call)
        self._thread.shutdown()


class SqliteDocuments:
    def __init__(self, path: Path, clock: Clock) -> None:
        self._file, self._clock = SqliteFile(path, SCHEMA), clock

    async def get(self, tenant: str, kind: str, id: str) -> Document | None:
        return (await self.get_many(tenant, kind, [id])).get(id)

    async def get_many(self, tenant: str, kind: str, ids: Sequence[str], deleted: bool = False) -> dict[str, Document]:
        query = (
            "SELECT id, version, body, deleted FROM documents WHERE tenant=? AND kind=? "
            "AND id IN (SELECT value FROM json_each(?))" + ("" if deleted else " AND deleted=0")
        )
        wanted = orjson.dumps(list(ids)).decode()
        found = await self._file.do(lambda c: c.execute(query, (tenant, kind, wanted)).fetchall())
        return {row[0]: _document(row) for row in found}

    async def upsert(self, tenant: str, kind: str, documents: Sequence[Document]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for at in range(0, len(documents), CHUNK):
            chunk = documents[at : at + CHUNK]
            outcomes += await self._file.write(lambda c, chunk=chunk: self._upsert(c, tenant, kind, chunk))  # type: ignore[misc]
        return outcomes

    def _upsert(self, c: sqlite3.Connection, tenant: str, kind: str, documents: Sequence[Document]) -> list[Outcome]:
        ids = orjson.dumps([d.id for d in documents]).decode()
        query = "SELECT id, version FROM documents WHERE tenant=? AND kind=? AND id IN (SELECT value FROM json_each(?))"
        stored: dict[str, int] = dict(c.execute(query, (tenant, kind, ids)).fetchall())
        now, rows, outcomes = self._clock.now(), [], []
        for d in documents:
            held = stored.get(d.id)
            if held is not None and d.version < held:
                outcomes.append(Outcome.STALE)
                continue
            outcomes.append(Outcome.CREATED if held is None else Outcome.UPDATED)
            stored[d.id] = d.version
            rows.append((tenant, kind, d.id, d.version, int(d.deleted), now, orjson.dumps(d.body)))
        c.executemany("INSERT OR REPLACE INTO documents VALUES (?,?,?,?,?,?,?)", rows)
        return outcomes

    async def find(
        self, tenant: str, kind: str, where: Sequence[Where] = (), limit: int = 100, after: str = ""
    ) -> list[Document]:
        query = "SELECT id, version, body, deleted FROM documents WHERE tenant=? AND kind=? AND deleted=0 AND id>?"
        arguments: list[Any] = [tenant, kind, after]
        for w in where:
            clause, value = _condition(w)
            query += clause
            arguments += value
        query += " ORDER BY id LIMIT ?"
        rows = await self._file.do(lambda c: c.execute(query, [*arguments, limit]).fetchall())
        return [_document(row) for row in rows]

    async def count(self, tenant: str, kind: str) -> int:
        query = "SELECT count(*) FROM documents WHERE tenant=? AND kind=? AND deleted=0"
        return int(await self._file.do(lambda c: c.execute(query, (tenant, kind)).fetchone()[0]))

    async def next_number(self, tenant: str, name: str, n: int = 1) -> int:
        query = (
            "INSERT INTO counters VALUES (?,?,?) ON CONFLICT DO UPDATE SET next = next + excluded.next RETURNING next"
        )
        return int(await self._file.write(lambda c: c.execute(query, (tenant, name, n)).fetchone()[0])) - n

    async def number(self, tenant: str, name: str) -> int:
        query = "SELECT next FROM counters WHERE tenant=? AND name=?"
        row = await self._file.do(lambda c: c.execute(query, (tenant, name)).fetchone())
        return int(row[0]) if row else 0

    async def drop_tombstones(self, before: int) -> int:
        query = "DELETE FROM documents WHERE deleted=1 AND written_at<?"
        return int(await self._file.write(lambda c: c.execute(query, (before,)).rowcount))

    async def close(self) -> None:
        await self._file.close()


def _document(row: tuple[str, int, bytes, int]) -> Document:
    return Document(row[0], row[1], orjson.loads(row[2]), bool(row[3]))


def _condition(w: Where) -> tuple[str, list[Any]]:
    w.check()
    column = "id" if w.field == "id" else f"json_extract(body, '$.{w.field}')"
    if w.op == "in":
        return f" AND {column} IN (SELECT value FROM json_each(?))", [orjson.dumps(list(w.value)).decode()]
    return f" AND {column} {COMPARE[w.op]} ?", [w.value]
