"""Dataset definitions: what data, of which window, filtered how, where time splits it. Each edit is a new version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray_app.catalog.fields import parse_whole
from ray_app.clock import Clock
from ray_app.errors import InvalidField, NotFound
from ray_app.stores.base import Document, Documents, Where

KIND = "datasets"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SOURCES = "behaviors, slates, documents:<kind>, parquet:<file>"
MOST_FILTERS, MOST_DAYS = 20, 4000


@dataclass(frozen=True, slots=True)
class Dataset:
    """`source`: one of SOURCES. `days`: of the window that ends at the build; of them the last `later_days` judge.
    `filters`: conditions on columns, all of which hold. `version` counts the edits, from 1."""

    name: str
    source: str = "behaviors"
    days: int = 90
    later_days: int = 14
    filters: tuple[Where, ...] = ()
    version: int = 1

    def public(self) -> dict[str, Any]:
        return {**asdict(self), "filters": [asdict(f) for f in self.filters]}


def parse(raw: Mapping[str, Any]) -> Dataset:
    """Raises InvalidField, naming the field."""
    name, source = str(raw.get("name", "")), str(raw.get("source", "behaviors"))
    if not NAME.fullmatch(name):
        raise InvalidField("name", name, NAME.pattern)
    kind, _, rest = source.partition(":")
    if source not in ("behaviors", "slates") and not (kind in ("documents", "parquet") and rest):
        raise InvalidField("source", source, SOURCES)
    days, later = (parse_whole(f, raw.get(f, usual), 1, MOST_DAYS) for f, usual in (("days", 90), ("later_days", 14)))
    if later >= days:
        raise InvalidField("later_days", later, f"1..{days - 1}: less than days")
    filters = tuple(_where(f) for f in raw.get("filters", ()))
    if len(filters) > MOST_FILTERS:
        raise InvalidField("filters", len(filters), f"at most {MOST_FILTERS}")
    return Dataset(name, source, days, later, filters)


def _where(raw: object) -> Where:
    if not isinstance(raw, Mapping) or set(raw) != {"field", "op", "value"}:
        raise InvalidField("filters", raw, "a list of {field, op, value}")
    found = Where(str(raw["field"]), str(raw["op"]), raw["value"])
    found.check()
    return found


class Datasets:
    """One tenant's definitions; every version stays."""

    def __init__(self, documents: Documents, clock: Clock, tenant: str) -> None:
        self._documents, self._clock, self._tenant = documents, clock, tenant

    async def put(self, wanted: Dataset) -> Dataset:
        """The stored one where nothing differs, else the next version."""
        versions = [v for v in await self._all() if v.name == wanted.name]
        newest = max(versions, key=lambda v: v.version, default=None)
        number = newest.version if newest else 0
        if newest and {**newest.public(), "version": 0} == {**wanted.public(), "version": 0}:
            return newest
        made = Dataset(wanted.name, wanted.source, wanted.days, wanted.later_days, wanted.filters, number + 1)
        id = f"{made.name}@{made.version:06d}"
        await self._documents.upsert(self._tenant, KIND, [Document(id, self._clock.now(), made.public())])
        return made

    async def get(self, name: str, version: int | None = None) -> Dataset:
        """The newest version unless said. Raises NotFound, which names the known ones."""
        every = await self._all()
        found = [d for d in every if d.name == name and version in (None, d.version)]
        if not found:
            known = ", ".join(sorted({d.name for d in every})) or "none"
            raise NotFound(f"dataset {name!r} is unknown to tenant {self._tenant!r}. Known: {known}", value=name)
        return max(found, key=lambda d: d.version)

    async def list(self) -> Sequence[Dataset]:
        """The newest version of each, by name."""
        newest = {d.name: d for d in sorted(await self._all(), key=lambda d: d.version)}
        return [newest[name] for name in sorted(newest)]

    async def _all(self) -> Sequence[Dataset]:
        found = await self._documents.find(self._tenant, KIND, limit=10_000)
        return [from_body(d.body) for d in found]


def from_body(body: Mapping[str, Any]) -> Dataset:
    """What `public` wrote."""
    return Dataset(**{**body, "filters": tuple(Where(**f) for f in body["filters"])})
