"""Rows: a tenant's number for an item, given once and never reused, also after a delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_app.stores.base import Document, Documents


async def assign(
    documents: Documents, tenant: str, ids: Sequence[str], stored: Mapping[str, Document]
) -> dict[str, int]:
    """Row by item id; `stored` has what there is of them, tombstones included.

    A crash between this and the write of the item leaves a gap, never a row with two items. The row stands in the
    item's body. One partition holds all events of an item, so no two live members assign the same id; a woken zombie
    may, and then the later write of the document wins, and the shelf takes the older row out.
    """
    known = {i: int(d.body["row"]) for i, d in stored.items()}
    new = [i for i in dict.fromkeys(ids) if i not in known]
    if new:
        first = await documents.next_number(tenant, "rows", len(new))
        known.update({i: first + k for k, i in enumerate(new)})
    return known
