"""A tenant's catalogue as arrays by row, at one moment: what one request sees from its first stage to its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.filter import FREE, Filter
from ray_app.catalog.plane import Plane
from ray_app.catalog.rows import FIRST
from ray_app.types import Mask, Rows, Scores


@dataclass(frozen=True)
class Pinned:
    """Arrays have length n. `vectors` lie in the embedder's `space`. `tags` int32 [n, m]: codes of each item's first
    tags, 0 where it has fewer. `epoch`: in which its rows mean these items.

    `ids`, `titles` and `bodies` may grow behind n while it is held; never read them past n.
    """

    n: int
    ids: Sequence[str]
    rows: Mapping[str, int]
    titles: Sequence[str]
    bodies: Sequence[Mapping[str, Any] | None]
    available: Mask
    category: NDArray[np.int32]
    categories: Sequence[str]
    type: NDArray[np.int32]
    types: Sequence[str]
    price: Scores
    published_at: NDArray[np.int64]
    vectors: Plane
    space: str
    tags: NDArray[np.int32]
    epoch: str = FIRST.id
    _masks: dict[Any, Mask] = field(default_factory=dict, repr=False)

    @cached_property
    def log_price(self) -> Scores:
        """Logarithm of one plus the price, 0 where it is not known."""
        return np.log1p(np.nan_to_num(self.price))

    @cached_property
    def newest(self) -> Rows:
        """Every row, the newest first; published at once: the smaller row first."""
        return np.argsort(-self.published_at, kind="stable").astype(np.int32)

    def row_of(self, item_id: str) -> int | None:
        """None for an id that is not known here."""
        row = self.rows.get(item_id)
        return row if row is not None and row < self.n else None

    def rows_of(self, ids: Sequence[str]) -> Rows:
        """Rows of the ids that are known here, in their order."""
        found = (self.rows.get(i, self.n) for i in ids)
        return np.array([r for r in found if r < self.n], np.int32)

    def eligible(self, filters: Sequence[Filter], hidden: Sequence[str] = ()) -> Mask:
        """Available, not hidden and passing every filter: a copy that the caller may change."""
        mask = self.matching(filters)
        mask &= self.available
        mask[self.rows_of(list(hidden))] = False
        return mask

    def matching(self, filters: Sequence[Filter]) -> Mask:
        """Every row that passes all filters, available or not: a copy."""
        mask = np.ones(self.n, np.bool_)
        for f in filters:
            mask &= self._mask(f)
        return mask

    def fits(self, rows: Rows, filters: Sequence[Filter]) -> Mask:
        """bool [len(rows)]: which of them pass all filters; of a filter on tags or attributes it reads no other row."""
        keep = np.ones(len(rows), np.bool_)
        for f in filters:
            free = f.field == "tags" or f.field.startswith(FREE)
            keep &= self._read(f, rows) if free else self._mask(f)[rows]
        return keep

    def _read(self, f: Filter, rows: Rows) -> Mask:
        wanted = f.value if f.op == "in" else (f.value,)
        return np.fromiter((_fits(self.bodies[r], f, wanted) for r in rows.tolist()), np.bool_, len(rows))

    def _mask(self, f: Filter) -> Mask:
        name = (f.field, f.op, f.value)
        held = self._masks.get(name)
        if held is None:
            if len(self._masks) > 64:  # of this state alone: it goes with the next change of the catalogue
                self._masks.clear()
            held = self._masks[name] = self._compute(f)
        return held

    def _compute(self, f: Filter) -> Mask:
        wanted = f.value if f.op == "in" else (f.value,)
        if f.field == "item_id":
            mask = np.zeros(self.n, np.bool_)
            mask[self.rows_of([str(v) for v in wanted])] = True
            return mask
        if f.field in ("category", "type"):
            names, codes = (self.categories, self.category) if f.field == "category" else (self.types, self.type)
            return np.isin(codes, [names.index(v) for v in wanted if v in names])
        if f.field in ("price", "published_at"):
            return _compare(self.price if f.field == "price" else self.published_at, f.op, wanted)
        return np.fromiter((_fits(b, f, wanted) for b in self.bodies[: self.n]), np.bool_, self.n)


def _compare(values: NDArray[Any], op: str, wanted: Sequence[Any]) -> Mask:
    """An unknown price (NaN) passes nothing."""
    if op == "gte":
        return np.asarray(values >= wanted[0])
    if op == "lte":
        return np.asarray(values <= wanted[0])
    whole = values.dtype.kind != "f"  # a fraction, or a number beyond 64 bits, equals no time
    return np.isin(values, np.asarray(wanted, np.float64 if whole else values.dtype))


def _fits(body: Mapping[str, Any] | None, f: Filter, wanted: Sequence[Any]) -> bool:
    if body is None:
        return False
    if f.field == "tags":
        return any(t in wanted for t in body["tags"])
    value = body["attributes"].get(f.field.removeprefix(FREE))
    if f.op in ("eq", "in"):
        return value in wanted
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return bool(value >= f.value if f.op == "gte" else value <= f.value)
