"""What the behaviours of a batch add to counters, gathered so that each counter is written once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ray_app.streams.state import Sums
from ray_app.types import Behavior

Target = TypeVar("Target", bound=Hashable)


class Tally(Generic[Target]):
    """`add` one behaviour at a time; each counts once, however often its event id comes within the repeat window."""

    def __init__(self) -> None:
        self._places: dict[Target, int] = {}
        self._once: list[str] = []
        self._at: list[int] = []
        self._of: list[int] = []
        self._by: list[int] = []

    def add(self, target: Target, by: int, b: Behavior, appended_at: int) -> None:
        place = self._places.setdefault(target, len(self._places))
        self._of.append(place)
        self._by.append(by)
        self._once.append(f"{b.tenant}/{b.event_id}")
        self._at.append(appended_at)

    def sums(self, fields: Callable[[Target], tuple[str, list[str]]]) -> list[Sums]:
        """`fields`: the field of a target and the keys of the hashes that have it. Empty when nothing was added."""
        if not self._once:
            return []
        keys: dict[str, int] = {}
        targets: list[tuple[str | int, ...]] = []
        for target in self._places:
            field, hashes = fields(target)
            targets.append((field, *[keys.setdefault(k, len(keys)) for k in hashes]))
        return [Sums(list(keys), targets, self._once, self._at, self._of, self._by)]
