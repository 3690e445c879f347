"""The connection to MongoDB: made when first used, a deadline on every call, and errors of ours without a secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from ray_app.errors import InvalidSettings, Unavailable
from ray_app.stores.url import without_credentials

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.database import AsyncDatabase

T = TypeVar("T")
SCHEMES = ("mongodb://", "mongodb+srv://")
MOST_SHOWN = 300


class MongoConnection:
    """For one event loop. `timeout_s` bounds each call with all of its retries, unless the URL sets timeoutMS."""

    def __init__(self, url: str, database: str, timeout_s: float) -> None:
        """Raises InvalidSettings for a URL that is none."""
        self.shown = shown_url(url)
        self._url, self._database, self._timeout_s = url, database, timeout_s
        self._client: AsyncMongoClient[dict[str, Any]] | None = None
        self._known = False

    async def do(self, work: Callable[[AsyncDatabase[dict[str, Any]]], Awaitable[T]]) -> T:
        """Raises Unavailable when the store is away or refuses; whether a write was made is then unknown."""
        from pymongo.errors import PyMongoError

        client = self._open()
        try:
            if not self._known:
                refuse_unfit(self.shown, await client.server_info())
                self._known = True
            return await work(client.get_default_database(self._database))
        except PyMongoError as e:
            raise Unavailable(f"documents at {self.shown} did not answer: {str(e)[:MOST_SHOWN]}. Try again") from e

    def _open(self) -> AsyncMongoClient[dict[str, Any]]:
        if self._client is None:
            from pymongo import AsyncMongoClient
            from pymongo.errors import PyMongoError

            try:
                self._client = AsyncMongoClient(self._url, **self._options())
            except (PyMongoError, ValueError, TypeError) as e:
                raise InvalidSettings(
                    f"setting stores.mongodb_url is {self.shown!r}, which cannot be used: {str(e)[:MOST_SHOWN]}"
                ) from e
        return self._client

    def _options(self) -> dict[str, Any]:
        """Ours where the URL says nothing; the last two always: an older answer or a lost write breaks our promises."""
        given = {name.lower() for name, _ in parse_qsl(self._url.partition("?")[2])}
        ours = {"appName": "lemo", "timeoutMS": int(self._timeout_s * 1000)}
        options = {name: value for name, value in ours.items() if name.lower() not in given}
        return {**options, "readPreference": "primary", "w": "majority"}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def shown_url(url: str) -> str:
    """The URL as it may be shown. Raises InvalidSettings for one of another kind, or whose password is not escaped: the
    driver would take a part of it for a host, and tell it."""
    user, _, password = url.partition("://")[2].rpartition("@")[0].partition(":")
    if set(user + password) & set("/?#@:"):
        raise InvalidSettings(
            "setting stores.mongodb_url has / ? # @ or : in its user or password; percent-encode them: @ is %40"
        )
    shown = without_credentials(url)
    if not url.startswith(SCHEMES):
        raise InvalidSettings(f"setting stores.mongodb_url is {shown!r}; allowed: {' or '.join(SCHEMES)}")
    return shown


def refuse_unfit(shown: str, server: Mapping[str, Any]) -> None:
    """Raises InvalidSettings for a server that speaks the protocol and breaks what we promise; `server` is its
    buildInfo."""
    version = str(server.get("ferretdbVersion", ""))
    if version.startswith("v1."):
        raise InvalidSettings(
            f"setting stores.mongodb_url is {shown!r}, which is FerretDB {version}. Its updates are not atomic: older "
            "versions would win, and numbers be given twice. Use MongoDB 5 or later"
        )
