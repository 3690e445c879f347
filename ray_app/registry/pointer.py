"""Which version of a name serves: one document, so that a change of it is one write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MOST_PAST = 50


@dataclass(frozen=True, slots=True)
class Pointer:
    """Ids of versions. `live` and `shadow`: "" for none; `past`: what was live before, the newest first."""

    live: str = ""
    past: tuple[str, ...] = ()
    shadow: str = ""

    def to(self, id: str) -> Pointer:
        """`id` is live, and what was goes to the past."""
        past = tuple(p for p in (self.live, *self.past) if p not in ("", id))
        return Pointer(id, past[:MOST_PAST], "" if self.shadow == id else self.shadow)

    def back(self, id: str) -> Pointer:
        """`id`, which is of the past, is live again; what was live after it is forgotten."""
        at = self.past.index(id)
        return replace(self, live=id, past=self.past[at + 1 :])

    def without(self, id: str) -> Pointer:
        """Neither live nor shadow; what was live can be gone back to."""
        if self.live == id:
            return replace(self, live="", past=(id, *self.past)[:MOST_PAST])
        return replace(self, shadow="") if self.shadow == id else self


def to_body(p: Pointer) -> dict[str, Any]:
    return {"id": p.live, "past": list(p.past), "shadow": p.shadow}


def from_body(body: Mapping[str, Any]) -> Pointer:
    return Pointer(str(body["id"]), tuple(body.get("past", ())), str(body.get("shadow", "")))
