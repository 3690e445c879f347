"""The client of the state store for processes without a loop: guards and slots of the task queue."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.exceptions import BusyLoadingError, ConnectionError, ReadOnlyError, ResponseError, TimeoutError
from redis.sentinel import Sentinel

from ray_app.stores.redis_url import Sentinels, parse

ARGUMENTS: dict[str, Any] = {
    "protocol": 2, "socket_timeout": 2.0, "socket_connect_timeout": 1.0, "health_check_interval": 30,
}  # fmt: skip
WAITS = ("OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "LOADING", "BUSY")  # how the errors begin that pass


def connect(url: str) -> Redis:
    """A lazy client that tries nothing twice: who calls knows what may be repeated. Raises InvalidSettings."""
    where = parse(url)
    if not isinstance(where, Sentinels):
        return Redis.from_url(where, retry=None, **ARGUMENTS)
    tls = {"ssl": True} if where.tls else {}
    sentinel = Sentinel(where.addresses, sentinel_kwargs={**where.sentinels, **ARGUMENTS, **tls})  # type: ignore[no-untyped-call]
    found: Redis = sentinel.master_for(where.master, **where.servers, **ARGUMENTS, **tls)  # type: ignore[no-untyped-call]
    return found


def stepped_down(redis: Redis, e: Exception) -> bool:
    """Whether the server is no master any more, which in a script Redis 6.2 says in a plain error; then the connections
    are dropped, so that the Sentinels are asked again."""
    if isinstance(e, ReadOnlyError) or (isinstance(e, ResponseError) and "READONLY" in str(e)):
        redis.connection_pool.disconnect()
        return True
    return isinstance(e, ConnectionError)


def away(redis: Redis, e: Exception) -> bool:
    """Whether the same call may succeed later: the server is away, reads its data, is full, or cannot write."""
    if isinstance(e, (TimeoutError, BusyLoadingError, OSError)) or stepped_down(redis, e):
        return True
    return isinstance(e, ResponseError) and any(w in str(e) for w in WAITS)
