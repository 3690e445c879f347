"""Hot score: what a behaviour adds, and what a request reads.

Integer sums of weights per (tenant, scenario, bucket of time); decay is applied when they are read, so that a
recount of the log's first occurrences compares equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ray_app.config import Features
from ray_app.types import Behavior

if TYPE_CHECKING:
    from redis.asyncio import Redis

WEIGHTS: Mapping[str, int] = MappingProxyType(
    {"click": 1, "play": 1, "comment": 2, "like": 2, "favourite": 3, "share": 3, "cart": 4, "purchase": 5}
)
ALL = "-"  # the sum over all scenarios


def key(prefix: str, tenant: str, scenario: str, bucket: int) -> str:
    return f"{prefix}:hot:{tenant}:{scenario}:{bucket}"


def adds(b: Behavior, bucket_s: int) -> Iterator[tuple[str, int, int]]:
    """(scenario, bucket, weight) for each sum that this behaviour changes."""
    weight = WEIGHTS.get(b.type)
    if weight is None:
        return
    bucket = b.occurred_at // (bucket_s * 1000)
    yield ALL, bucket, weight
    if b.scenario:
        yield b.scenario, bucket, weight


async def read(
    redis: Redis, prefix: str, tenant: str, now: int, settings: Features, scenario: str = ALL
) -> dict[str, float]:
    """Item id -> sum of weights, halved for every `hot_half_life_s` of age; older than 7 half-lives is left out."""
    size = settings.hot_bucket_s
    last = now // (size * 1000)
    first = last - min(settings.hot_keep_s, 7 * settings.hot_half_life_s) // size
    keys = [k async for k in redis.scan_iter(f"{prefix}:hot:{tenant}:{scenario}:*", count=1000)]
    buckets = {int(k.rsplit(b":", 1)[1]): k for k in keys}
    async with redis.pipeline(transaction=False) as pipe:
        wanted = [b for b in buckets if first <= b <= last + 1]
        for b in wanted:
            pipe.hgetall(buckets[b])
        sums = await pipe.execute()
    total: dict[str, float] = {}
    for bucket, held in zip(wanted, sums, strict=True):
        decay = 0.5 ** (max(0, last - bucket) * size / settings.hot_half_life_s)
        for item, weight in held.items():
            name = item.decode()
            total[name] = total.get(name, 0.0) + int(weight) * decay
    return total
