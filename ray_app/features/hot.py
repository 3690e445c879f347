"""Hot score: what a behaviour adds.

Integer sums of weights per (tenant, scenario, bucket of time); nothing decays when it is written, so that a recount
of the log's first occurrences compares equal. `boards` reads them, and lets them fade.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ray_app import config

# Of profiles and training; the hot sums have those of setting features.hot_weights.
WEIGHTS: Mapping[str, int] = MappingProxyType({str(t): w for t, w in config.WEIGHTS.items()})
ALL = "-"  # the sum over all scenarios
MOST_TOUCHED = 10_000  # entries of the feed: a reader that fell further behind reads every bucket again


def key(prefix: str, tenant: str, scenario: str, bucket: int) -> str:
    """The hash {item: sum of weights} of one bucket, the number of its span since 1970."""
    return f"{prefix}:hot:{tenant}:{scenario}:{bucket}"


def feed(prefix: str, tenant: str) -> str:
    """A stream of the buckets that a batch has changed, so that a reader fetches those alone."""
    return f"{prefix}:hotfeed:{tenant}"


def names(scenario: str | None) -> tuple[str, ...]:
    """The sums that a behaviour of this scenario is part of."""
    return (ALL, scenario) if scenario and scenario != ALL else (ALL,)
