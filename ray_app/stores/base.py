"""The ports of what we remember. State (Redis) and analytics (ClickHouse) have one client each, and no port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ray_app.errors import InvalidField
from ray_app.types import Mask, Matrix, Rows, Scores

OPERATORS = ("eq", "in", "gte", "lte")


class Outcome(Enum):
    CREATED = "created"
    UPDATED = "updated"
    STALE = "stale"  # an equal id with a newer version is stored


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document. `deleted` marks a tombstone, which keeps an older write from coming back."""

    id: str
    version: int
    body: Mapping[str, Any]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Where:
    """One condition on the document's `id` or on a top-level field of its body; op is eq, in, gte or lte."""

    field: str
    op: str
    value: Any

    def check(self) -> None:
        """Raises InvalidField for a field that is no plain word or an op that is not known."""
        if not self.field.replace("_", "").isalnum():
            raise InvalidField("where.field", self.field, "letters, digits and _")
        if self.op not in OPERATORS:
            raise InvalidField("where.op", self.op, ", ".join(OPERATORS))


class Documents(Protocol):
    """JSON documents by (tenant, kind, id). Every call is bound to one tenant. Raises Unavailable when away."""

    async def get(self, tenant: str, kind: str, id: str) -> Document | None:
        """None when absent or deleted."""
        ...

    async def get_many(self, tenant: str, kind: str, ids: Sequence[str], deleted: bool = False) -> dict[str, Document]:
        """Found ones by id; tombstones only with `deleted`."""
        ...

    async def upsert(self, tenant: str, kind: str, documents: Sequence[Document]) -> list[Outcome]:
        """Write each whose version is at least the stored one (tombstones count); a Document with `deleted` deletes."""
        ...

    async def find(
        self, tenant: str, kind: str, where: Sequence[Where] = (), limit: int = 100, after: str = ""
    ) -> list[Document]:
        """Ordered by id, ids greater than `after`, at most `limit`; without tombstones."""
        ...

    async def count(self, tenant: str, kind: str) -> int: ...

    async def next_number(self, tenant: str, name: str, n: int = 1) -> int:
        """Reserve n numbers of a counter that starts at 0; returns the first. Never given twice, gaps are possible."""
        ...

    async def number(self, tenant: str, name: str) -> int:
        """The next number that would be given: an upper bound of all given ones."""
        ...

    async def drop_tombstones(self, before: int) -> int: ...

    async def close(self) -> None: ...


class Vectors(Protocol):
    """Float vectors by (tenant, space, row); a space is one embedder version. Inner product of unit vectors."""

    async def upsert(self, tenant: str, space: str, rows: Rows, vectors: Matrix) -> None:
        """rows int32 [n], vectors float32 [n, d]."""
        ...

    async def delete(self, tenant: str, space: str, rows: Rows) -> None: ...

    async def load(self, tenant: str, space: str) -> tuple[Rows, Matrix]:
        """All rows of the space ascending, and their vectors; ([0], [0, 0]) when empty."""
        ...

    async def search(
        self, tenant: str, space: str, query: Matrix, n: int, allowed: Mask | None = None
    ) -> tuple[Rows, Scores]:
        """The n best rows for one query float32 [d], best first; `allowed` is bool by row."""
        ...

    async def drop(self, tenant: str, space: str) -> None: ...

    async def close(self) -> None: ...
