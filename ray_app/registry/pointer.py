"""Which version of a name serves: one document, so that a change of it is one write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray_app.catalog.rows import FIRST

MOST_PAST = 50
ROWS = "rows"  # the name whose live version says which rows the items have, and with it which of the others can serve


@dataclass(frozen=True, slots=True)
class Pointer:
    """Ids of versions. `live` and `shadow`: "" for none; `past`: what was live before, the newest first. `epoch`: whose
    rows `live` and `shadow` have. `rebuilt`, of ROWS alone: by name what goes live with it."""

    live: str = ""
    past: tuple[str, ...] = ()
    shadow: str = ""
    epoch: str = FIRST.id
    rebuilt: Mapping[str, str] = field(default_factory=dict)

    def to(self, id: str) -> Pointer:
        """`id` is live, and what was goes to the past."""
        past = tuple(p for p in (self.live, *self.past) if p not in ("", id))
        return replace(self, live=id, past=past[:MOST_PAST], shadow="" if self.shadow == id else self.shadow)

    def back(self, id: str) -> Pointer:
        """`id`, which is of the past, is live again; what was live after it is forgotten."""
        at = self.past.index(id)
        return replace(self, live=id, past=self.past[at + 1 :])

    def without(self, id: str) -> Pointer:
        """Neither live nor shadow; what was live can be gone back to."""
        if self.live == id:
            return replace(self, live="", past=(id, *self.past)[:MOST_PAST])
        return replace(self, shadow="") if self.shadow == id else self


def in_force(found: Mapping[str, Pointer]) -> dict[str, Pointer]:
    """What the pointers say together. One of another epoch than the live rows' says no more what is live: in its place
    stands what was rebuilt for these rows. So one write, of the pointer to the rows, moves every name at once."""
    rows = found.get(ROWS, Pointer())
    epoch = rows.live or FIRST.id
    others = {name: found.get(name, Pointer()) for name in (*found, *rows.rebuilt) if name != ROWS}
    moved = {
        name: p if p.epoch == epoch else replace(p, shadow="", epoch=epoch).to(rows.rebuilt.get(name, ""))
        for name, p in others.items()
    }
    return moved | ({ROWS: replace(rows, epoch=epoch)} if rows.live else {})


def to_body(p: Pointer) -> dict[str, Any]:
    return {"id": p.live, "past": list(p.past), "shadow": p.shadow, "epoch": p.epoch, "rebuilt": dict(p.rebuilt)}


def from_body(body: Mapping[str, Any]) -> Pointer:
    epoch, rebuilt = str(body.get("epoch", FIRST.id)), dict(body.get("rebuilt", {}))
    return Pointer(str(body["id"]), tuple(body.get("past", ())), str(body.get("shadow", "")), epoch, rebuilt)
