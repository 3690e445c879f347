"""The embedded event log: one SQLite file, (topic, partition, dense position, appended_at, key, body).

It is durable: an acknowledged write survives a power cut.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ray_app.cancel import cancel
from ray_app.clock import Clock
from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Entry, Logged, Place, PositionLost, partition_of
from ray_app.sqlite import SqliteFile

T = TypeVar("T")
CHUNK = 1000  # entries in a transaction: a writer never holds the file for long
RETAIN_EVERY = 256  # transactions of a topic
TELL_S = 0.2  # a process that was stopped in the middle of a write holds the file
POLL_S = 0.02  # another process's append is seen within this

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  topic TEXT, partition INTEGER, position INTEGER, appended_at INTEGER, key TEXT, body BLOB,
  PRIMARY KEY (topic, partition, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ends (
  topic TEXT, partition INTEGER, first INTEGER DEFAULT 0, position INTEGER, appended_at INTEGER,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (
  groupname TEXT, topic TEXT, partition INTEGER, position INTEGER,
  PRIMARY KEY (groupname, topic, partition)) WITHOUT ROWID;
"""

ENDS = "SELECT topic, partition, position FROM ends"


class SqliteLog:
    """Several processes may open one file. Retention removes what is older than `retention_s`."""

    def __init__(self, path: Path, partitions: int, clock: Clock, retention_s: float | None = None) -> None:
        self._file = SqliteFile(path, SCHEMA, durable=True)
        self._telling = SqliteFile(path, SCHEMA, busy_s=TELL_S)  # never in the way of what counts
        self._n, self._clock, self._retention_s = partitions, clock, retention_s
        self._appends: dict[str, int] = defaultdict(int)
        self._own = 0  # our own writes, which SQLite's data_version does not count
        self._seen = (0, 0)
        self._looking: asyncio.Task[None] | None = None

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        done: list[Appended] = []
        for at in range(0, len(entries), CHUNK):
            chunk = entries[at : at + CHUNK]
            done += await self._file.write(lambda c, chunk=chunk: self._append(c, topic, chunk))  # type: ignore[misc]
            self._own += 1
        return done

    def _append(self, c: sqlite3.Connection, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        now, rows = self._clock.now(), []
        ends: dict[int, tuple[int, int]] = {}
        for e in entries:
            p = partition_of(e.key, self._n)
            position, at = ends.get(p) or _end(c, topic, p)
            at = max(at, now)
            rows.append((topic, p, position, at, e.key, e.body))
            ends[p] = (position + 1, at)
        c.executemany("INSERT INTO entries VALUES (?,?,?,?,?,?)", rows)
        c.executemany(
            "INSERT INTO ends (topic, partition, position, appended_at) VALUES (?,?,?,?) "
            "ON CONFLICT DO UPDATE SET position = excluded.position, appended_at = excluded.appended_at",
            [(topic, p, position, at) for p, (position, at) in ends.items()],
        )
        self._retain(c, topic, now)
        return [Appended(topic, r[1], r[2]) for r in rows]

    def _retain(self, c: sqlite3.Connection, topic: str, now: int) -> None:
        self._appends[topic] += 1  # by topic: of two that take turns, one would never be the 256th
        if self._retention_s is None or self._appends[topic] % RETAIN_EVERY:
            return
        gone: dict[int, int] = defaultdict(int)
        before = now - int(self._retention_s * 1000)
        for p in range(self._n):
            row = c.execute(
                "SELECT min(position) FROM entries WHERE topic=? AND partition=? AND appended_at>=?", (topic, p, before)
            ).fetchone()
            gone[p] = row[0] if row[0] is not None else _end(c, topic, p)[0]
        for p, position in gone.items():
            c.execute("DELETE FROM entries WHERE topic=? AND partition=? AND position<?", (topic, p, position))
            c.execute("UPDATE ends SET first=max(first, ?) WHERE topic=? AND partition=?", (position, topic, p))

    async def topics(self) -> list[str]:
        query = "SELECT DISTINCT topic FROM ends ORDER BY topic"
        return await self._file.do(lambda c: [topic for (topic,) in c.execute(query)])

    async def partitions(self, topic: str) -> int:
        return self._n

    async def read(self, topic: str, partition: int, position: int, limit: int, wait_s: float = 0.0) -> list[Logged]:
        deadline = time.monotonic() + wait_s
        while True:
            seen = self._seen
            found = await self._file.do(lambda c: _read(c, topic, partition, position, limit))
            if found or time.monotonic() >= deadline:
                return found
            while self._seen == seen and time.monotonic() < deadline:
                await self._look()

    async def wait(self, places: Mapping[Place, int], wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            seen = self._seen
            ends = await self._file.do(lambda c: {(t, p): at for t, p, at in c.execute(ENDS)})
            if any(ends.get(place, 0) > at for place, at in places.items()):
                return
            while self._seen == seen:
                if time.monotonic() >= deadline:
                    return
                await self._look()

    async def _look(self) -> None:
        """After POLL_S `_seen` is another when any process has written; all who wait share one look."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_once())
        await asyncio.wait({self._looking})

    async def _look_once(self) -> None:
        await asyncio.sleep(POLL_S)
        try:
            version = await self._file.do(lambda c: int(c.execute("PRAGMA data_version").fetchone()[0]))
        except Unavailable:
            version = -1  # whoever waits reads, and meets the error itself
        self._seen = (version, self._own)

    async def first(self, topic: str, partition: int) -> int:
        return await self._file.do(lambda c: _first(c, topic, partition))

    async def end(self, topic: str, partition: int) -> int:
        return (await self._file.do(lambda c: _end(c, topic, partition)))[0]

    async def ends(self, topic: str) -> list[int]:
        found = await self._file.do(lambda c: {(t, p): at for t, p, at in c.execute(ENDS)})
        return [found.get((topic, p), 0) for p in range(self._n)]

    async def tell_group(self, group: str, topic: str, partition: int, position: int) -> None:
        line = (group, topic, partition, position)
        await self._telling.do(lambda c: c.execute("INSERT OR REPLACE INTO told VALUES (?,?,?,?)", line))

    async def told(self, group: str, topic: str, partition: int) -> int:
        query = "SELECT position FROM told WHERE groupname=? AND topic=? AND partition=?"
        row = await self._file.do(lambda c: c.execute(query, (group, topic, partition)).fetchone())
        return int(row[0]) if row else 0

    async def version(self) -> str:
        return await self._file.do(lambda c: f"SQLite {c.execute('SELECT sqlite_version()').fetchone()[0]}")

    async def close(self) -> None:
        await cancel([self._looking] if self._looking else [])
        await self._file.close()
        await self._telling.close()


def _end(c: sqlite3.Connection, topic: str, partition: int) -> tuple[int, int]:
    query = "SELECT position, appended_at FROM ends WHERE topic=? AND partition=?"
    row = c.execute(query, (topic, partition)).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _first(c: sqlite3.Connection, topic: str, partition: int) -> int:
    row = c.execute("SELECT first FROM ends WHERE topic=? AND partition=?", (topic, partition)).fetchone()
    return int(row[0]) if row else 0


def _read(c: sqlite3.Connection, topic: str, partition: int, position: int, limit: int) -> list[Logged]:
    query = (
        "SELECT topic, partition, position, appended_at, key, body FROM entries "
        "WHERE topic=? AND partition=? AND position>=? ORDER BY position LIMIT ?"
    )
    found = [Logged(*row) for row in c.execute(query, (topic, partition, position, limit))]
    if not found or found[0].position != position:
        first = _first(c, topic, partition)
        if position < first:
            raise PositionLost(topic, partition, position, first)
    return found
