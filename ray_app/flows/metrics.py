"""Realtime metrics: impressions, clicks, conversions and distinct users per minute, hour and day, by tenant, scenario
and arm.

Scenario and arms are those of the signed request_id; without one that is ours, the behaviour's own scenario and no arm.
A behaviour that was appended later than the allowed lateness after it happened adds to no window of its time: it is
counted as late in the windows in which it was appended.

Promise: counts equal a recount of the first occurrences in the topic, after any crash; users are a HyperLogLog, to
which a visitor may be added again without effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from ray_app.analytics.realtime import ALL, FIELDS, LATE, WINDOWS, Slot, key, users_key
from ray_app.config import Metrics as Settings
from ray_app.events.base import Topics
from ray_app.flows.read import behaviors
from ray_app.flows.tally import Tally
from ray_app.streams.flow import Batch
from ray_app.streams.state import Op, Sums

MINUTE_MS = 60_000
MOST_IDS = 50_000  # request ids whose signature is not looked at again
MOST_AT_ONCE = 1000


class Shown(Protocol):
    """What a request id says."""

    @property
    def scenario(self) -> str: ...
    @property
    def arms(self) -> Mapping[str, str]: ...


Read = Callable[[str], Shown | None]


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Behaviours that are part of the same counts. Compared by identity: it is looked up for each behaviour."""

    slots: tuple[Slot, ...]


Target = tuple[Group, int, str]
"""Whose counts, the minute, and the field."""


class Metrics:
    name = "metrics"
    linger_s = 0.0

    def __init__(self, topics: Topics, prefix: str, settings: Settings, read: Callable[[], Awaitable[Read]]) -> None:
        """`read` is awaited before the first batch: the secret of the request ids lies in the documents."""
        self.topics, self._prefix, self._settings, self._read = topics, prefix, settings, read
        self._groups: _Groups | None = None
        keep = (settings.minutes_keep_s, settings.hours_keep_s, settings.days_keep_s)
        self._keep_s = dict(zip(WINDOWS, keep, strict=True))

    async def flush(self, batch: Batch) -> Sequence[Op | Sums]:
        if self._groups is None:
            self._groups = _Groups(await self._read())
        group_of, lateness_ms = self._groups.of, self._settings.lateness_s * 1000
        tally: Tally[Target] = Tally()
        met: dict[tuple[Group, int], set[str]] = defaultdict(set)
        for at, b in behaviors(batch):
            mine = group_of(b.tenant, b.scenario, b.request_id)
            if at - b.occurred_at > lateness_ms:
                tally.add((mine, at // MINUTE_MS, LATE), 1, b, at)
                continue
            minute = b.occurred_at // MINUTE_MS
            met[mine, minute].add(b.visitor)
            if field := FIELDS.get(b.type):
                tally.add((mine, minute, field), 1, b, at)
        return self._ops(tally, met)

    def _ops(self, tally: Tally[Target], met: Mapping[tuple[Group, int], set[str]]) -> list[Op | Sums]:
        keys = _Keys(self._prefix)
        ops: list[Op | Sums] = [*tally.sums(lambda target: (target[2], [k for k, _, _ in keys.of(*target[:2])]))]
        users: dict[str, set[str]] = defaultdict(set)
        for (group, minute), visitors in met.items():
            for counts, _, _ in keys.of(group, minute):
                users[counts] |= visitors
        for counts, visitors in sorted(users.items()):
            ops += [Op(("PFADD", users_key(counts), *part)) for part in _parts(sorted(visitors))]
        for counts, window, number in sorted(keys.all()):
            until = (number + 1) * WINDOWS[window] + self._keep_s[window]
            ops += [Op(("EXPIREAT", counts, until)), Op(("EXPIREAT", users_key(counts), until))]
        return ops


def _parts(visitors: list[str]) -> Iterator[list[str]]:
    """As many as one command of a script takes."""
    return (visitors[k : k + MOST_AT_ONCE] for k in range(0, len(visitors), MOST_AT_ONCE))


class _Groups:
    """Whose counts a behaviour is part of. Twenty behaviours of one answer have one request id."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.of = lru_cache(MOST_IDS)(self._of)
        self._made = lru_cache(MOST_IDS)(self._make)

    def _of(self, tenant: str, scenario: str | None, request_id: str | None) -> Group:
        shown = self._read(request_id) if request_id else None
        if shown is None:
            return self._made(tenant, scenario, ())
        return self._made(tenant, shown.scenario, tuple(f"{e}={arm}" for e, arm in sorted(shown.arms.items())))

    def _make(self, tenant: str, scenario: str | None, arms: tuple[str, ...]) -> Group:
        scenarios = (ALL, scenario) if scenario and scenario != ALL else (ALL,)
        return Group(tuple(Slot(tenant, s, arm) for s in scenarios for arm in (ALL, *arms)))


class _Keys:
    """Keys of the batch: each is made once."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._made: dict[tuple[Group, int], list[tuple[str, str, int]]] = {}

    def of(self, group: Group, minute: int) -> list[tuple[str, str, int]]:
        """(key, window, its number) of each hash of counts that this minute is part of."""
        found = self._made.get((group, minute))
        if found is None:
            numbers = [(w, minute * 60 // size) for w, size in WINDOWS.items()]
            found = [(key(self._prefix, w, n, slot), w, n) for slot in group.slots for w, n in numbers]
            self._made[group, minute] = found
        return found

    def all(self) -> Iterator[tuple[str, str, int]]:
        return iter({k for made in self._made.values() for k in made})
