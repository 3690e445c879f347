"""Analytics: ClickHouse by clickhouse-connect, served or the embedded chDB server; the same client and SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from ray_app.errors import Unavailable

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"


class Olap:
    """The client is blocking, so it has a thread of its own. The tables are made before the first use."""

    def __init__(self, url: str, timeout_s: int = 30) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._thread = ThreadPoolExecutor(1, "olap")
        self._client: Client | None = None

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Raises Unavailable when the store is away; whether the rows were written is then unknown."""
        if rows:
            await self._do(lambda c: c.insert(table, rows, column_names=list(columns)))

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows by column name. Parameters are written {name:Type} in the SQL."""
        return await self._do(lambda c: list(c.query(sql, parameters=dict(parameters or {})).named_results()))

    async def columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The same as numpy arrays by column name, for many rows; {} when there are none: names come with the rows."""

        def work(c: Client) -> dict[str, Any]:
            found = c.query(sql, parameters=dict(parameters or {}), column_oriented=True)
            return {name: np.asarray(c) for name, c in zip(found.column_names, found.result_columns, strict=False)}

        return await self._do(work)

    async def _do(self, work: Callable[[Client], T]) -> T:
        from clickhouse_connect.driver.exceptions import DatabaseError, InterfaceError, OperationalError

        def call() -> T:
            try:
                return work(self._open())
            except (OperationalError, InterfaceError, DatabaseError, OSError) as e:
                self._drop()
                raise Unavailable(f"analytics at {self._url} did not answer: {str(e)[:300]}") from e

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open(self) -> Client:
        if self._client is None:
            self._client = _connect(self._url, self._timeout_s)
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()


def _connect(url: str, timeout_s: int) -> Client:
    import clickhouse_connect

    parts = urlsplit(url)
    client = clickhouse_connect.get_client(
        host=parts.hostname or "127.0.0.1", port=parts.port or 8123, interface=parts.scheme or "http",
        username=parts.username or "default", password=parts.password or "",
        database=parts.path.strip("/") or "__default__",
        autogenerate_session_id=False, connect_timeout=5, send_receive_timeout=timeout_s,
    )  # fmt: skip
    migrate(client)
    return client


def migrate(client: Client) -> None:
    """Apply the numbered files of `migrations/`; every statement may run again."""
    for file in sorted(MIGRATIONS.glob("*.sql")):
        for statement in file.read_text().split(";"):
            client.command(statement.strip())
