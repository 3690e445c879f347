"""What no store has spoken of for longer than events are kept goes: events, what finds them, and orders.

An event that comes again after that counts as a new one. What it did stays: behaviours, items, stock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ray_app.catalog.store import Stores as Chain
from ray_app.catalog.tenant import SYSTEM
from ray_app.neural import orders, process
from ray_app.neural.stores import Stores
from ray_app.stores.base import Document, Where

PAGE = 500


async def clean(stores: Stores) -> dict[str, int]:
    """{events, orders}: how many went, of all tenants; the age is that of their last write here, whenever they
    happened. Done again after a crash it goes on."""
    counts = {"events": 0, "orders": 0}
    for tenant in await _tenants(stores):
        async for page in _old(stores, tenant, process.KIND):
            await process.collection(stores, tenant).forget(page)
            counts["events"] += len(page)
        async for page in _old(stores, tenant, orders.KIND):
            await orders.forget(stores.documents, tenant, page)
            counts["orders"] += len(page)
    return counts


async def _tenants(stores: Stores) -> Sequence[str]:
    prefix = stores.settings.stores.redis_prefix
    chain, found, after = Chain(stores.documents, stores.redis, prefix, stores.clock), set[str](), ""
    while page := await chain.list(SYSTEM, PAGE, after):
        found |= {s.tenant for s in page}
        after = page[-1].id
    return sorted(found)


async def _old(stores: Stores, tenant: str, kind: str) -> AsyncIterator[list[Document]]:
    before, after = stores.clock.now() - stores.settings.neural.keep_s * 1000, ""
    while page := await stores.documents.find(tenant, kind, [Where("kept_at", "lte", before)], PAGE, after):
        yield page
        after = page[-1].id
