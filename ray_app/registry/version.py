"""A version: one trained artifact with its metrics and a status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from ray_app.catalog.rows import FIRST
from ray_app.errors import InvalidField


class Status(Enum):
    """`shadow`: scores beside the live one and chooses nothing. MOVES says what may become what."""

    STAGED = "staged"
    SHADOW = "shadow"
    LIVE = "live"
    RETIRED = "retired"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.STAGED: frozenset({Status.SHADOW, Status.LIVE, Status.RETIRED}),
    Status.SHADOW: frozenset({Status.LIVE, Status.RETIRED}),
    Status.LIVE: frozenset({Status.RETIRED}),
    Status.RETIRED: frozenset({Status.LIVE}),  # back to an older one
}


@dataclass(frozen=True, slots=True)
class Version:
    """`files`: sha256 by path below the version's folder. `covers`: rows 0 .. covers - 1 are known to it."""

    name: str
    id: str
    made_at: int
    files: Mapping[str, str]
    status: Status = Status.STAGED
    metrics: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    covers: int = 0


def epoch_of(version: Version) -> str:
    """In which the rows that it knows mean the items that they meant when it was made."""
    return str(version.about.get("row_epoch", FIRST.id))


def move(version: Version, to: Status) -> Version:
    """Raises InvalidField for a move that the table does not allow."""
    if to not in MOVES[version.status]:
        allowed = ", ".join(sorted(s.value for s in MOVES[version.status]))
        raise InvalidField("status", to.value, f"from {version.status.value}: {allowed}")
    return replace(version, status=to)


def to_body(v: Version) -> dict[str, Any]:
    return {
        "name": v.name, "id": v.id, "made_at": v.made_at, "files": dict(v.files), "status": v.status.value,
        "metrics": dict(v.metrics), "about": dict(v.about), "covers": v.covers,
    }  # fmt: skip


def from_body(body: Mapping[str, Any]) -> Version:
    return Version(**{**body, "status": Status(body["status"])})
