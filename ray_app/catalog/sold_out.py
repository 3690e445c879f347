"""What is sold out: said of an item beside its own state, so that no write of the item that is on its way is lost, or
brings it back.

The statement of the latest time counts; of one moment "sold out" does. It is durable first, then told to every replica
by the tenant's change feed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_app.catalog import changes
from ray_app.catalog.changes import Change
from ray_app.stores.base import Document, Documents, Outcome

if TYPE_CHECKING:
    from redis.asyncio import Redis

KIND = "sold_out"
PAGE = 2000


@dataclass(frozen=True, slots=True)
class Statement:
    """As of `at` (ms)."""

    item_id: str
    is_out: bool
    at: int

    @property
    def version(self) -> int:
        return 2 * self.at + self.is_out


class SoldOut:
    """What is said of items' stock; `prefix`: of the feeds' keys."""

    def __init__(self, documents: Documents, redis: Redis, prefix: str) -> None:
        self._documents, self._redis, self._prefix = documents, redis, prefix

    async def say(self, tenant: str, said: Sequence[Statement]) -> list[bool]:
        """Of each, whether it stands: a later one does not let it. Said again it is told again, which changes nothing.
        Raises Unavailable and RedisError."""
        newest = {s.item_id: s for s in sorted(said, key=lambda s: s.version)}
        written = [Document(s.item_id, s.version, {"sold_out": s.is_out, "at": s.at}) for s in newest.values()]
        outcomes = await self._documents.upsert(tenant, KIND, written)
        standing = [d for d, o in zip(written, outcomes, strict=True) if o is not Outcome.STALE]
        async with self._redis.pipeline(transaction=False) as pipe:
            for d in standing:
                fields: Any = changes.encode(_change(d))
                pipe.xadd(changes.key(self._prefix, tenant), fields, maxlen=changes.MAX_CHANGES)
            await pipe.execute()
        versions = {d.id: d.version for d in standing}
        return [versions.get(s.item_id) == s.version for s in said]


async def read(documents: Documents, tenant: str) -> AsyncIterator[Change]:
    """Every statement of the tenant that stands."""
    after = ""
    while page := await documents.find(tenant, KIND, limit=PAGE, after=after):
        for one in page:
            yield _change(one)
        after = page[-1].id


async def among(documents: Documents, tenant: str, ids: Sequence[str]) -> list[Change]:
    """What stands of these items."""
    return [_change(d) for d in (await documents.get_many(tenant, KIND, ids)).values()] if ids else []


def _change(d: Document) -> Change:
    return Change(d.id, -1, d.version, None, sold_out=bool(d.body["sold_out"]))
