"""The embedded document store: one SQLite file, JSON bodies by (tenant, kind, id)."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from ray_app.clock import Clock
from ray_app.sqlite import SqliteFile
from ray_app.stores.base import Document, Outcome, Where, kind_of

CHUNK = 1000
SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  tenant TEXT, kind TEXT, id TEXT, version INTEGER, deleted INTEGER, written_at INTEGER, body BLOB,
  PRIMARY KEY (tenant, kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones ON documents (written_at) WHERE deleted = 1;
CREATE TABLE IF NOT EXISTS counters (tenant TEXT, name TEXT, next INTEGER, PRIMARY KEY (tenant, name)) WITHOUT ROWID;
"""
KINDS = {str: "('text')", float: "('integer', 'real')", bool: "('true', 'false')"}
COMPARE = {"eq": "=", "gte": ">=", "lte": "<="}


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
        self,
        tenant: str,
        kind: str,
        where: Sequence[Where] = (),
        limit: int = 100,
        after: str = "",
        deleted: bool = False,
    ) -> list[Document]:
        query = "SELECT id, version, body, deleted FROM documents WHERE tenant=? AND kind=? AND id>?"
        query += "" if deleted else " AND deleted=0"
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

    async def version(self) -> str:
        return "SQLite " + str(await self._file.do(lambda c: c.execute("SELECT sqlite_version()").fetchone()[0]))

    async def close(self) -> None:
        await self._file.close()


def _document(row: tuple[str, int, bytes, int]) -> Document:
    return Document(row[0], row[1], orjson.loads(row[2]), bool(row[3]))


def _condition(w: Where) -> tuple[str, list[Any]]:
    """One comparison for each kind of values, since SQLite itself would compare a text with a number."""
    w.check()
    alike: dict[Any, list[Any]] = defaultdict(list)
    for value in w.values:
        alike[kind_of(value)].append(value)
    if w.field == "id":
        compared = [_compared("id", w.op, alike[str])] if alike[str] else []
    else:
        path = f"body, '$.{w.field}'"
        compared = [
            (f"json_type({path}) IN {KINDS[kind]} AND {clause}", argument)
            for kind, values in alike.items()
            for clause, argument in [_compared(f"json_extract({path})", w.op, values)]
        ]
    return f" AND ({' OR '.join(c for c, _ in compared) or '0'})", [argument for _, argument in compared]


def _compared(column: str, op: str, values: list[Any]) -> tuple[str, Any]:
    if op == "in":
        return f"{column} IN (SELECT value FROM json_each(?))", orjson.dumps(values).decode()
    return f"{column} {COMPARE[op]} ?", values[0]
