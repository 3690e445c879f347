"""What is sold out: said of an item beside its own state, so that no write of the item that is on its way is lost, or
brings it back.

The statement of the latest time counts; of one moment "sold out" does. It is durable first, then told to every replica
by the tenant's change feed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from ray_app.catalog import changes
from ray_app.catalog.changes import Change
from ray_app.stores.base import Document, Documents, Outcome

if TYPE_CHECKING:
    from redis.asyncio import Redis

KIND = "sold_out"
PAGE = 2000


class SoldOut:
    """What is said of items' stock; `prefix`: of the feeds' keys."""

    def __init__(self, documents: Documents, redis: Redis, prefix: str) -> None:
        self._documents, self._redis, self._prefix = documents, redis, prefix

    async def say(self, tenant: str, item_id: str, is_out: bool, at: int) -> bool:
        """As of `at` (ms). False where a later statement stands, which then goes on. Said again it is told again, which
        changes nothing. Raises Unavailable and RedisError."""
        statement = Document(item_id, 2 * at + is_out, {"sold_out": is_out, "at": at})
        (outcome,) = await self._documents.upsert(tenant, KIND, [statement])
        if outcome is Outcome.STALE:
            return False
        fields: Any = changes.encode(_change(statement))
        await self._redis.xadd(changes.key(self._prefix, tenant), fields, maxlen=changes.MAX_CHANGES)
        return True


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
