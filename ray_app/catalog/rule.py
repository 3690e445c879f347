"""Operator's rules: what is pinned, boosted, buried, hidden or capped, where and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ray_app.catalog.filter import Filter
from ray_app.clock import Clock
from ray_app.errors import NotFound, Unavailable
from ray_app.stores.base import Document, Documents, Outcome

KIND = "rules"
FRESH_S = 1.0  # a replica sees an edit within this
PIN, BOOST, BURY, HIDE, CAP = "pin", "boost", "bury", "hide", "cap"
ACTIONS = (PIN, BOOST, BURY, HIDE, CAP)
MOST = 1000  # of a tenant


@dataclass(frozen=True, slots=True)
class Rule:
    """`items`: filters that an item must pass, so that the rule is about it. `scenarios`: where it holds; none:
    everywhere. In force from `since` to before `until` (ms; 0: no such end).

    pin: the best `count` of them stand from `position` on. boost and bury add and take `amount` times the distance
    between the best and the last score; of several on an item that of the highest `priority` counts. cap: at most
    `most` of them in any `window` places. hide: they are not eligible, whatever other rules say. Of two pins on one
    place the higher priority has it; equal: the smaller id.
    """

    id: str
    action: str
    items: tuple[Filter, ...]
    title: str = ""
    scenarios: tuple[str, ...] = ()
    since: int = 0
    until: int = 0
    priority: int = 0
    amount: float = 1.0
    position: int = 0
    count: int = 1
    most: float = 1.0
    window: int = 0

    def holds(self, scenario: str, now: int) -> bool:
        """Whether it is in force there at `now` (ms)."""
        here = not self.scenarios or scenario in self.scenarios
        return here and self.since <= now and (not self.until or now < self.until)

    def public(self) -> dict[str, Any]:
        """Without the fields that its action does not read."""
        idle = {name for action in ACTIONS for name in OF[action]} - set(OF[self.action])
        return {k: v for k, v in asdict(self).items() if k not in idle}


OF: Mapping[str, tuple[str, ...]] = {
    PIN: ("position", "count"), BOOST: ("amount",), BURY: ("amount",), HIDE: (), CAP: ("most", "window"),
}  # fmt: skip


def from_body(body: Mapping[str, Any]) -> Rule:
    """What `public` wrote."""
    filters = (Filter(f["field"], f["op"], _value(f["value"])) for f in body["items"])
    return Rule(**{**body, "items": tuple(filters), "scenarios": tuple(body["scenarios"])})


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Rules:
    """A tenant's rules, at most FRESH_S old."""

    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents, self._clock = documents, clock
        self._held: dict[str, tuple[float, tuple[Rule, ...]]] = {}

    async def of(self, tenant: str, scenario: str) -> tuple[Rule, ...]:
        """Those in force there at this moment, the most important first. Raises Unavailable."""
        rules, now = await self.list(tenant), self._clock.now()
        return tuple(r for r in rules if r.holds(scenario, now)) if rules else ()

    async def list(self, tenant: str) -> tuple[Rule, ...]:
        """All of them, the most important first."""
        now = self._clock.monotonic()
        held = self._held.get(tenant)
        if held is None or now - held[0] > FRESH_S:
            stored = [from_body(d.body) for d in await self._documents.find(tenant, KIND, limit=MOST)]
            held = (now, tuple(sorted(stored, key=lambda r: (-r.priority, r.id))))
            self._held[tenant] = held
        return held[1]

    async def put(self, tenant: str, rule: Rule) -> None:
        """In the place of one with the same id. Raises Unavailable."""
        await self._write(tenant, Document(rule.id, self._clock.now(), rule.public()))

    async def delete(self, tenant: str, id: str) -> None:
        """Raises NotFound, naming the known ones."""
        if await self._documents.get(tenant, KIND, id) is None:
            known = ", ".join(r.id for r in await self.list(tenant)) or "none"
            raise NotFound(f"rule {id!r} is unknown to tenant {tenant!r}. Known: {known[:500]}", field="rule", value=id)
        await self._write(tenant, Document(id, self._clock.now(), {}, deleted=True))

    async def _write(self, tenant: str, document: Document) -> None:
        (outcome,) = await self._documents.upsert(tenant, KIND, [document])
        if outcome is Outcome.STALE:
            raise Unavailable(f"rule {document.id!r} was not written: the clock is behind the last write's")
        self._held.pop(tenant, None)
