"""One SQLite file in WAL mode behind one thread, so that no event loop is blocked; several processes may open it."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ray_app.errors import Unavailable

T = TypeVar("T")


class SqliteFile:
    """`durable`: an acknowledged write survives a power cut, at about a millisecond a transaction; without it a write
    survives `kill -9`. `busy_s`: how long a write waits for another process's."""

    def __init__(self, path: Path, schema: str, durable: bool = False, busy_s: float = 10.0) -> None:
        self._path, self._schema, self._busy_s = path, schema, busy_s
        self._synchronous = "FULL" if durable else "NORMAL"
        self._thread = ThreadPoolExecutor(1, path.stem)
        self._connection: sqlite3.Connection | None = None

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Raises Unavailable when the file cannot be used; a transaction in hand was then rolled back."""

        def call() -> T:
            try:
                return work(self._open())
            except (sqlite3.Error, OSError) as e:
                self._connection = None
                raise Unavailable(f"{self._path} cannot be used: {e}. Nothing was written; try again") from e

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
        if self._connection is not None:
            return self._connection
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite does not wait for others where it changes the journal's mode, so openings go one by one.
        with self._path.with_suffix(".open").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            opened = sqlite3.connect(self._path, timeout=self._busy_s, isolation_level=None)
            opened.execute("PRAGMA journal_mode=WAL")
            opened.execute(f"PRAGMA synchronous={self._synchronous}")
            opened.executescript(self._schema)
        self._connection = opened
        return opened

    async def close(self) -> None:
        def call() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.get_running_loop().run_in_executor(self._thread, call)
        self._thread.shutdown()
