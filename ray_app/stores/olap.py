"""Analytics: ClickHouse by clickhouse-connect, served or the embedded chDB server; the same client and SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from ray_app.errors import InvalidSettings, Unavailable
from ray_app.stores.migrate import migrate
from ray_app.stores.url import without_credentials

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

T = TypeVar("T")
PORTS = {"http": 8123, "https": 8443}
ABSENT = "UNKNOWN_DATABASE"


class Olap:
    """`url`: http(s)://[user:password@]host[:port][/database]. The client is blocking, so it has a thread of its own.

    Before the first use the database and the tables are made, where they are absent; the first call raises
    InvalidSettings when they cannot be, or are not those of this version.
    """

    def __init__(self, url: str, timeout_s: int = 30) -> None:
        self.url, self._timeout_s = url, timeout_s
        if urlsplit(url).scheme not in PORTS:
            shown = without_credentials(url)
            raise InvalidSettings(f"setting stores.clickhouse_url is {shown!r}; allowed: http(s)://host:port/database")
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
        """The same as numpy arrays by column name, for many rows; {} when there are none: names come with the rows. A
        column of arrays is one of dtype object, since their lengths differ."""

        def work(c: Client) -> dict[str, Any]:
            found = c.query(sql, parameters=dict(parameters or {}), column_oriented=True)
            return {name: _array(c) for name, c in zip(found.column_names, found.result_columns, strict=False)}

        return await self._do(work)

    async def version(self) -> str:
        found = await self._do(lambda c: c.query("SELECT version()").result_rows)
        return f"ClickHouse {found[0][0]}"

    async def _do(self, work: Callable[[Client], T]) -> T:
        from clickhouse_connect.driver.exceptions import DatabaseError, InterfaceError, OperationalError

        def call() -> T:
            try:
                return work(self._open())
            except (OperationalError, InterfaceError, DatabaseError, OSError) as e:
                self._drop()
                shown = without_credentials(self.url)
                raise Unavailable(f"analytics at {shown} did not answer: {str(e)[:300]}") from e

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open(self) -> Client:
        if self._client is None:
            self._client = _connect(self.url, self._timeout_s)
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()


def _array(column: Sequence[Any]) -> NDArray[Any]:
    nested = len(column) and isinstance(column[0], Sequence) and not isinstance(column[0], str)
    return np.fromiter(column, object, len(column)) if nested else np.asarray(column)


def _connect(url: str, timeout_s: int) -> Client:
    """The client of a database that has its tables."""
    from clickhouse_connect.driver.exceptions import DatabaseError

    database = unquote(urlsplit(url).path.strip("/"))
    try:
        client = _client(url, database, timeout_s)
    except DatabaseError as e:
        if not database or ABSENT not in str(e):
            raise
        _make_database(url, database, timeout_s)
        client = _client(url, database, timeout_s)
    try:
        migrate(client)
    except BaseException:
        client.close()
        raise
    return client


def _client(url: str, database: str, timeout_s: int) -> Client:
    """Without a database: the user's own, on most servers `default`."""
    import clickhouse_connect

    parts = urlsplit(url)
    return clickhouse_connect.get_client(
        host=parts.hostname or "127.0.0.1", port=parts.port or PORTS[parts.scheme], interface=parts.scheme,
        username=unquote(parts.username or "default"), password=unquote(parts.password or ""),
        database=database or "__default__", show_clickhouse_errors="scrub",
        autogenerate_session_id=False, connect_timeout=5, send_receive_timeout=timeout_s,
    )  # fmt: skip


def _make_database(url: str, database: str, timeout_s: int) -> None:
    from clickhouse_connect.driver.binding import quote_identifier
    from clickhouse_connect.driver.exceptions import DatabaseError

    client = _client(url, "", timeout_s)
    try:
        client.command(f"CREATE DATABASE IF NOT EXISTS {quote_identifier(database)}")
    except DatabaseError as e:
        raise InvalidSettings(
            f"the database {database!r} of stores.clickhouse_url is not there, and the server does not let us make it: "
            f"{str(e)[:300]}. Make it (CREATE DATABASE), or give the user of the URL the right to, or name another one"
        ) from e
    finally:
        client.close()
