"""Realtime metrics: counts per window of time, tenant, scenario and arm, written by the metrics flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

WINDOWS: Mapping[str, int] = MappingProxyType({"1m": 60, "1h": 3600, "1d": 86_400})  # seconds, from 1970 UTC on
ALL = "-"  # every scenario, every arm
FIELDS: Mapping[str, str] = MappingProxyType(
    {"impression": "impressions", "click": "clicks", "purchase": "conversions"}
)  # by type of behaviour
LATE = "late"


@dataclass(frozen=True, slots=True)
class Slot:
    """Whose counts: an arm is `<experiment>=<arm>`."""

    tenant: str
    scenario: str = ALL
    arm: str = ALL


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the window that begins at `since` (ms). `users`: visitors with any behaviour, by HyperLogLog, within about 1%.
    `late`: behaviours that were appended in this window, too late for the one that they belong to."""

    since: int
    impressions: int
    clicks: int
    conversions: int
    users: int
    late: int

    @property
    def ctr(self) -> float | None:
        """Clicks by impressions; None without impressions."""
        return self.clicks / self.impressions if self.impressions else None


def key(prefix: str, window: str, number: int, slot: Slot) -> str:
    """The hash of counts of window `number`, counted from 1970."""
    return f"{prefix}:metrics:{slot.tenant}:{window}:{_part(slot.scenario)}:{_part(slot.arm)}:{number}"


def users_key(counts: str) -> str:
    """The HyperLogLog beside a hash of counts."""
    return f"{counts}:users"


@lru_cache(10_000)
def _part(name: str) -> str:
    """Of a key: a colon in a name is none of the key's."""
    return name.replace("%", "%25").replace(":", "%3A")


async def read(redis: Redis, prefix: str, slot: Slot, window: str, span: tuple[int, int]) -> list[Counts]:
    """The windows from span[0] to span[1] (ms, both inside), oldest first, in one round trip; empty ones are zero."""
    size_ms = WINDOWS[window] * 1000
    numbers = range(span[0] // size_ms, span[1] // size_ms + 1)
    names = [*FIELDS.values(), LATE]
    async with redis.pipeline(transaction=False) as pipe:
        for n in numbers:
            counts = key(prefix, window, n, slot)
            pipe.hmget(counts, names)
            pipe.pfcount(users_key(counts))
        found: list[Any] = await pipe.execute()
    return [
        Counts(n * size_ms, users=int(users), **{f: int(v or 0) for f, v in zip(names, held, strict=True)})
        for n, held, users in zip(numbers, found[::2], found[1::2], strict=True)
    ]
