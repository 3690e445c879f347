"""The ports of what we remember. State (Redis) and analytics (ClickHouse) have one client each, and no port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ray_app.errors import InvalidField
from ray_app.types import Mask, Matrix, Rows, Scores

OPERATORS = ("eq", "in", "gte", "lte")
LIVE = "live"  # to load and search: the space that was promoted last
MOST_ANSWERS = 16_384  # of one search


class Outcome(Enum):
    CREATED = "created"
    UPDATED = "updated"
    STALE = "stale"  # an equal id with a newer version is stored


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document. `deleted` marks a tombstone, which keeps an older write from coming back. The body is JSON
    as orjson writes and reads it, under any field names; the version fits in 64 bits."""

    id: str
    version: int
    body: Mapping[str, Any]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Where:
    """One condition on the document's `id` or on a top-level field of its body; op is eq, in, gte or lte. Texts compare
    with texts (by code point), numbers with numbers, truth with truth; values of another kind never match."""

    field: str
    op: str
    value: Any

    @property
    def values(self) -> list[Any]:
        """What the field is compared with: the members of `value` for `in`, else `value` alone."""
        return list(self.value) if self.op == "in" else [self.value]

    def check(self) -> None:
        """Raises InvalidField for a field that is no plain word, an unknown op, or a value of neither kind."""
        if not is_word(self.field):
            raise InvalidField("where.field", self.field, "letters, digits and _")
        if self.op not in OPERATORS:
            raise InvalidField("where.op", self.op, ", ".join(OPERATORS))
        if self.op == "in" and not isinstance(self.value, (list, tuple, set, frozenset)):
            raise InvalidField("where.value", self.value, "a list or a set for op in")
        for value in self.values:
            if kind_of(value) is None or (isinstance(value, int) and not -(2**63) <= value < 2**63):
                raise InvalidField("where.value", value, "a text, a number of 64 bits, true or false")


def is_word(name: str) -> bool:
    """A field of this name may stand in a condition."""
    return name.replace("_", "").isalnum()


def kind_of(value: object) -> type[bool] | type[str] | type[float] | None:
    """Which values this one is compared with: truth, texts or numbers; None when with none."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, str):
        return str
    return float if isinstance(value, (int, float)) else None


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
        self,
        tenant: str,
        kind: str,
        where: Sequence[Where] = (),
        limit: int = 100,
        after: str = "",
        deleted: bool = False,
    ) -> list[Document]:
        """Ordered by id, ids greater than `after`, at most `limit`; tombstones only with `deleted`."""
        ...

    async def count(self, tenant: str, kind: str) -> int: ...

    async def next_number(self, tenant: str, name: str, n: int = 1) -> int:
        """Reserve n numbers of a counter that starts at 0; returns the first. Never given twice, gaps are possible."""
        ...

    async def number(self, tenant: str, name: str) -> int:
        """The next number that would be given: an upper bound of all given ones."""
        ...

    async def drop_tombstones(self, before: int) -> int:
        """Of all tenants, those written before this time (ms); returns how many."""
        ...

    async def version(self) -> str:
        """The store's name and version, e.g. "MongoDB 7.0.5"; one round trip. Raises Unavailable."""
        ...

    async def close(self) -> None: ...


def writable(space: str) -> str:
    """The space itself. Raises InvalidField for LIVE, which names another one."""
    if space == LIVE:
        raise InvalidField("space", space, f"an embedder's version; {LIVE!r} is only for load and search")
    return space


class Vectors(Protocol):
    """Float vectors by (tenant, space, row); a space is one embedder version. Inner product of unit vectors.

    An acknowledged write is seen by every load and search that begins after it. Raises Unavailable when away.
    """

    async def upsert(self, tenant: str, space: str, rows: Rows, vectors: Matrix) -> None:
        """rows int32 [n], vectors float32 [n, d]; of a row that comes twice the later stays."""
        ...

    async def delete(self, tenant: str, space: str, rows: Rows) -> None: ...

    async def load(self, tenant: str, space: str) -> tuple[Rows, Matrix]:
        """All rows of the space ascending, and their vectors; ([0], [0, 0]) when empty."""
        ...

    async def search(
        self, tenant: str, space: str, query: Matrix, n: int, allowed: Mask | None = None
    ) -> tuple[Rows, Scores]:
        """The n (at most MOST_ANSWERS) best rows for one query float32 [d], best first; `allowed` is bool by row, and
        fewer than n come back only when fewer allowed rows are stored."""
        ...

    async def promote(self, tenant: str, space: str) -> None:
        """From now on LIVE names this space, without a moment between. Raises NotFound for a space without vectors."""
        ...

    async def drop(self, tenant: str, space: str) -> None:
        """If it was the promoted one, LIVE is empty until the next promotion."""
        ...

    async def version(self) -> str:
        """What holds the vectors, and its version."""
        ...

    async def close(self) -> None: ...
