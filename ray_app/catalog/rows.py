"""Rows: a tenant's number for an item, given once and never reused, also after a delete; and the row of a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ray_app.types import Rows

if TYPE_CHECKING:
    from ray_app.stores.base import Document, Documents

NONE: Rows = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Epoch:
    """Numbers stand in documents, feeds and the vector store; arrays of a process have rows. `dense` int32 [m]: the row
    of each number below m, ascending, -1 for one that no item has any more; from m on no row is left out."""

    id: str = "0"
    dense: Rows = field(default_factory=lambda: NONE)

    @cached_property
    def kept(self) -> int:
        """Rows that the numbers below m have."""
        return int((self.dense >= 0).sum())

    def of(self, numbers: Rows) -> Rows:
        """int32, as long: the row of each number, or -1."""
        m = len(self.dense)
        found: Rows = (numbers - (m - self.kept)).astype(np.int32)
        early = numbers < m
        found[early] = self.dense[numbers[early]]
        return found

    def size(self, number: int) -> int:
        """How many rows there are when `number` is the next to be given; at least `m`."""
        return number - len(self.dense) + self.kept


FIRST = Epoch()  # before any compaction: numbers are rows


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
