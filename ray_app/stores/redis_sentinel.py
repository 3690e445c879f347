"""A Redis client behind Sentinels: every connection, a renewed one too, is to the server that they name the master."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.exceptions import ConnectionError, ResponseError

from ray_app.stores.redis_url import Sentinels


class MasterConnection(SentinelManagedConnection):
    """redis-py asks the Sentinels for a new connection only: a broken one goes back to the server that it had, which
    may have become a replica (its issue 3874)."""

    async def _connect_retry(self) -> None:
        await self.connect_check_health(self.connection_pool.check_connection, retry_socket_connect=False)

    async def _connect(self) -> None:
        self.host, self.port = await self.connection_pool.get_master_address()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """A refused write means that the master stepped down. In a script Redis 6.2 says so in a plain error, which
        redis-py does not know."""
        try:
            return await super().read_response(*args, **kwargs)
        except ResponseError as e:
            if "READONLY" not in str(e):
                raise
            await self.disconnect()
            raise ConnectionError("the server is no master any more") from e


class MasterTlsConnection(MasterConnection, SentinelManagedSSLConnection):
    pass


class MasterClient(Redis):
    """Closes its connections to the Sentinels with its own."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        await pool.sentinel_manager.aclose()


def master(where: Sentinels, arguments: Mapping[str, Any], of_sentinels: Mapping[str, Any]) -> MasterClient:
    """`arguments` of connections to Redis, `of_sentinels` of those to the Sentinels."""
    tls = {"ssl": True} if where.tls else {}
    sentinel = Sentinel(where.addresses, sentinel_kwargs={**where.sentinels, **of_sentinels, **tls})  # type: ignore[no-untyped-call]
    found: MasterClient = sentinel.master_for(
        where.master, redis_class=MasterClient,
        connection_class=MasterTlsConnection if where.tls else MasterConnection, **where.servers, **arguments,
    )  # fmt: skip
    return found
