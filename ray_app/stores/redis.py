"""The client of the state store; the same for the embedded and a served Redis (6.2 commands)."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, TimeoutError

from ray_app.errors import InvalidSettings


def connect(url: str) -> Redis:
    """A lazy client: nothing is sent before the first command. Raises InvalidSettings for a URL of another kind."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise InvalidSettings(f"setting stores.redis_url is {url!r}; allowed: redis://, rediss:// or unix://")
    return Redis.from_url(
        url,
        protocol=2,  # version 3 changes the shape of results
        socket_timeout=2.0,
        socket_connect_timeout=1.0,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        retry_on_error=[ConnectionError, TimeoutError],
        health_check_interval=30,
    )
