"""Documents in memory, for unit tests and stories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ray_app.clock import Clock
from ray_app.stores.base import Document, Outcome, Where, kind_of


class MemoryDocuments:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[tuple[str, str], dict[str, tuple[Document, int]]] = defaultdict(dict)
        self._counters: dict[tuple[str, str], int] = defaultdict(int)

    async def get(self, tenant: str, kind: str, id: str) -> Document | None:
        return (await self.get_many(tenant, kind, [id])).get(id)

    async def get_many(self, tenant: str, kind: str, ids: Sequence[str], deleted: bool = False) -> dict[str, Document]:
        held = self._held[tenant, kind]
        return {i: held[i][0] for i in ids if i in held and (deleted or not held[i][0].deleted)}

    async def upsert(self, tenant: str, kind: str, documents: Sequence[Document]) -> list[Outcome]:
        return [self._upsert(tenant, kind, d) for d in documents]

    def _upsert(self, tenant: str, kind: str, d: Document) -> Outcome:
        held = self._held[tenant, kind].get(d.id)
        if held and d.version < held[0].version:
            return Outcome.STALE
        self._held[tenant, kind][d.id] = (d, self._clock.now())
        return Outcome.UPDATED if held else Outcome.CREATED

    async def find(
        self,
        tenant: str,
        kind: str,
        where: Sequence[Where] = (),
        limit: int = 100,
        after: str = "",
        deleted: bool = False,
    ) -> list[Document]:
        for w in where:
            w.check()
        held = (d for _, (d, _) in sorted(self._held[tenant, kind].items()) if d.id > after)
        return [d for d in held if (deleted or not d.deleted) and all(_fits(d, w) for w in where)][:limit]

    async def count(self, tenant: str, kind: str) -> int:
        return sum(not d.deleted for d, _ in self._held[tenant, kind].values())

    async def next_number(self, tenant: str, name: str, n: int = 1) -> int:
        self._counters[tenant, name] += n
        return self._counters[tenant, name] - n

    async def number(self, tenant: str, name: str) -> int:
        return self._counters[tenant, name]

    async def drop_tombstones(self, before: int) -> int:
        gone = [(k, i) for k, held in self._held.items() for i, (d, at) in held.items() if d.deleted and at < before]
        for k, i in gone:
            del self._held[k][i]
        return len(gone)

    async def version(self) -> str:
        return "memory"

    async def close(self) -> None:
        self._held.clear()


def _fits(d: Document, w: Where) -> bool:
    value = d.id if w.field == "id" else d.body.get(w.field)
    alike = [v for v in w.values if kind_of(v) is kind_of(value)]
    if w.op in ("eq", "in"):
        return value in alike
    return any(bool(value >= v if w.op == "gte" else value <= v) for v in alike)
