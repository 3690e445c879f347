"""The client of the state store; the same for the embedded Redis, a served one, one behind Sentinels (6.2 commands)."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from ray_app.config import CLUSTER_REFUSED
from ray_app.errors import InvalidSettings
from ray_app.stores.redis_sentinel import master
from ray_app.stores.redis_url import KEY, Sentinels, parse

TIMEOUTS: dict[str, Any] = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0, "health_check_interval": 30}


def connect(url: str) -> Redis:
    """A lazy client: nothing is sent before the first command. Raises InvalidSettings for a URL of another kind."""
    where = parse(url)
    # Version 3 of the protocol changes the shape of results.
    arguments: dict[str, Any] = {
        "protocol": 2, "retry": Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        "retry_on_error": [ConnectionError, TimeoutError], **TIMEOUTS,
    }  # fmt: skip
    if isinstance(where, Sentinels):
        return master(where, arguments, {"protocol": 2, **TIMEOUTS})
    return Redis.from_url(where, **arguments)


async def refuse_cluster(redis: Redis) -> None:
    """Raises InvalidSettings when the server is a node of a Redis Cluster. One that is away, or that does not tell,
    is not judged."""
    try:
        found: Any = await redis.info("cluster")
    except (RedisError, OSError):
        return
    if found.get("cluster_enabled"):
        raise InvalidSettings(f"setting {KEY} names a node of a Redis Cluster. {CLUSTER_REFUSED}", key=KEY)
