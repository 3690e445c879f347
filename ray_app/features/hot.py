"""Hot score: what a behaviour adds.

Integer sums of weights per (tenant, scenario, bucket of time); nothing decays when it is written, so that a recount
of the log's first occurrences compares equal. `boards` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ray_app.types import Behavior

WEIGHTS: Mapping[str, int] = MappingProxyType(
    {"click": 1, "play": 1, "comment": 2, "like": 2, "favourite": 3, "share": 3, "cart": 4, "purchase": 5}
)
ALL = "-"  # the sum over all scenarios
MOST_TOUCHED = 10_000  # entries of the feed: a reader that fell further behind reads every bucket again


def key(prefix: str, tenant: str, scenario: str, bucket: int) -> str:
    return f"{prefix}:hot:{tenant}:{scenario}:{bucket}"


def feed(prefix: str, tenant: str) -> str:
    """A stream of the buckets that a batch has changed, so that a reader fetches those alone."""
    return f"{prefix}:hotfeed:{tenant}"


def adds(b: Behavior, bucket_s: int) -> Iterator[tuple[str, int, int]]:
    """(scenario, bucket, weight) for each sum that this behaviour changes."""
    weight = WEIGHTS.get(b.type)
    if weight is None:
        return
    bucket = b.occurred_at // (bucket_s * 1000)
    yield ALL, bucket, weight
    if b.scenario:
        yield b.scenario, bucket, weight
