"""What is older than content is kept goes: documents, what finds their copies, and their items."""

from __future__ import annotations

import asyncio

from ray_app.catalog.tenant import SYSTEM
from ray_app.content.dedupe import Copies
from ray_app.content.document import Kept, folder_of
from ray_app.content.stores import Stores
from ray_app.content.sync import tenants
from ray_app.events.schema import delete_entry
from ray_app.stores.base import Where


async def clean(stores: Stores, tenant: str = SYSTEM) -> dict[str, int]:
    """{documents, items}: how many went, of one tenant or, for SYSTEM, of all. What was fetched first more than
    content.keep_s ago counts as old, whenever it was published. Done again after a crash it goes on."""
    counts = {"documents": 0, "items": 0}
    for one in [tenant] if tenant != SYSTEM else await tenants(stores):
        gone = await _clean(stores, one)
        counts = {k: n + gone[k] for k, n in counts.items()}
    return counts


async def _clean(stores: Stores, tenant: str) -> dict[str, int]:
    now, prefix = stores.clock.now(), stores.settings.stores.redis_prefix
    kept, copies = Kept(stores.documents, stores.clock, tenant), Copies(stores.redis, prefix, tenant)
    old = [Where("fetched_at", "lte", now - stores.settings.content.keep_s * 1000)]
    counts = {"documents": 0, "items": 0}
    async for page in kept.pages(old):
        items = [d.item_id for d in page if d.item_id]
        if items:
            entries = [delete_entry(tenant, i, now) for i in items]
            await stores.log.append(stores.settings.events.item_topic, entries)
        await copies.forget(page)
        for d in page:  # also a page that a newer one replaced while it was processed
            await asyncio.to_thread(stores.blobs.remove, folder_of(tenant, d.id))
        await kept.delete([d.id for d in page])
        counts = {"documents": counts["documents"] + len(page), "items": counts["items"] + len(items)}
    return counts
