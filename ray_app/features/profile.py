"""Profile: what a behaviour changes for its visitor, and what a request reads in one round trip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from ray_app.config import Features
from ray_app.features.hot import WEIGHTS
from ray_app.types import Behavior

if TYPE_CHECKING:
    from redis.asyncio import Redis

LONG_TERM = "profiles"  # the kind of the documents that the job `profiles` makes, by visitor
READ = (Path(__file__).parent / "profile.lua").read_text()
UNWANTED = ("dislike", "hide")
MOST_READ = 100  # of the recent items: by a request, and so by training
Command = tuple[str | int | float, ...]


class Recent(NamedTuple):
    """A recent item: the last behaviour's time (ms) and weight, and how often it was bought."""

    item_id: str
    at: int
    weight: int
    purchases: int


@dataclass(frozen=True, slots=True)
class Profile:
    """`recent`: newest first. `seen`: items clicked, bought or refused."""

    recent: tuple[Recent, ...] = ()
    seen: frozenset[str] = frozenset()


def keys(prefix: str, tenant: str, visitor: str) -> tuple[str, str, str, str]:
    """Sorted sets `recent` and `seen` (item -> occurred_at), hashes `weights` and `purchases` (item -> number)."""
    base = f"{prefix}:profile:{tenant}:{visitor}"
    return f"{base}:recent", f"{base}:seen", f"{base}:weights", f"{base}:purchases"


def writes(b: Behavior, prefix: str) -> Iterator[Command]:
    """Redis commands of one behaviour; an impression changes nothing."""
    if b.type not in WEIGHTS and b.type not in UNWANTED:
        return
    recent, seen, weights, purchases = keys(prefix, b.tenant, b.visitor)
    if b.type in UNWANTED:
        yield "ZREM", recent, b.item_id
    else:
        yield "ZADD", recent, "GT", b.occurred_at, b.item_id
        yield "HSET", weights, b.item_id, WEIGHTS[b.type]
    if b.type == "purchase":
        yield "HINCRBY", purchases, b.item_id, 1
    yield "ZADD", seen, "GT", b.occurred_at, b.item_id


def trims(prefix: str, tenant: str, visitor: str, settings: Features) -> Iterator[Command]:
    """What keeps a profile small, once for all behaviours of a visitor in a batch."""
    recent, seen, weights, purchases = keys(prefix, tenant, visitor)
    yield "ZREMRANGEBYRANK", recent, 0, -settings.recent_items - 1
    yield "ZREMRANGEBYRANK", seen, 0, -settings.seen_items - 1
    for k in (recent, seen, weights, purchases):
        yield "EXPIRE", k, settings.profile_keep_s


async def read(redis: Redis, prefix: str, tenant: str, visitor: str, most: int = MOST_READ) -> Profile:
    """One round trip: the newest `most` items with their weights, and the seen set. One packed reply: the client
    spends as long on each of many small values as on all of these together."""
    found = await redis.register_script(READ)(keys=keys(prefix, tenant, visitor), args=[most])
    latest, known, weights, purchases = msgpack.unpackb(found)  # type: ignore[attr-defined, no-untyped-call]
    lines = zip(latest[::2], latest[1::2], weights, purchases, strict=True)
    recent = tuple(Recent(i, int(float(at)), int(w or 1), int(n or 0)) for i, at, w, n in lines)
    return Profile(recent, frozenset(known))
