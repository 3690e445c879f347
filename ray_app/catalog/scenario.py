"""Scenarios: a place that asks for recommendations, and how they are made there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ray_app.catalog.reranking import Cap, Exploration, Freshness
from ray_app.clock import Clock
from ray_app.errors import Unavailable, UnknownScenario
from ray_app.stores.base import Document, Documents, Outcome

KIND = "scenarios"
BEST = "best"  # the kind that was the best at the last training
FRESH_S = 1.0  # a replica sees an edit within this


@dataclass(frozen=True, slots=True)
class Channel:
    """`weight` in the merge by reciprocal rank; at most `quota` candidates come from it."""

    weight: float
    quota: int


@dataclass(frozen=True, slots=True)
class Pin:
    """An operator's item at a fixed position, 0 is the first."""

    item_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """`exclude_seen`: drop what the visitor clicked, bought or refused. `from_context`: with a context item, what is
    near it is wanted, whoever asks. `diversity`: 0 ranks by score alone, 1 by difference alone, as `diversifier` (a
    name of models.diversity) weighs them. `duplicate_likeness`: two items whose text vectors are as alike (cosine), or
    whose titles are the same, are copies, and one of them alone is shown while others are left; 1: nobody looks.
    `ranker`: BEST, or a kind (a name of models.ranker) whose own version ranks here. `score`: expression over what it
    predicts. `listed`: the operator's items, best first, that the channel of
    this name brings."""

    id: str
    title: str
    channels: Mapping[str, Channel]
    candidates: int = 200
    budget_s: float = 0.1
    exclude_seen: bool = True
    ranked: bool = True
    ranker: str = BEST
    score: str = "click"
    from_context: bool = False
    diversity: float = 0.05
    diversifier: str = "mmr"
    caps: tuple[Cap, ...] = (Cap("category", 0.6),)
    duplicate_likeness: float = 1.0
    freshness: Freshness | None = None
    exploration: Exploration | None = None
    pins: tuple[Pin, ...] = ()
    hidden: frozenset[str] = field(default_factory=frozenset)
    listed: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        return {**asdict(self), "hidden": sorted(self.hidden)}


def from_body(body: Mapping[str, Any]) -> Scenario:
    """What `public` wrote."""
    known = dict(body)
    known["channels"] = {name: Channel(**c) for name, c in body["channels"].items()}
    share = known.pop("category_share", None)  # how a cap per category was written before there were others
    caps = body.get("caps") if share is None else ([{"by": "category", "most": share}] if share < 1 else [])
    if caps is not None:
        known["caps"] = tuple(Cap(**c) for c in caps)
    known["freshness"] = Freshness(**f) if (f := body.get("freshness")) else None
    known["exploration"] = Exploration(**e) if (e := body.get("exploration")) else None
    known["pins"] = tuple(Pin(**p) for p in body.get("pins", ()))
    known["hidden"] = frozenset(body.get("hidden", ()))
    known["listed"] = tuple(body.get("listed", ()))
    return Scenario(**known)


HOME = Scenario(
    "home",
    "Recommended for you",
    {
        "item_cf": Channel(1.0, 150),
        "factors": Channel(1.0, 150),
        "content": Channel(1.0, 150),
        "hot": Channel(0.5, 150),
        "hot_category": Channel(0.2, 50),
        "new": Channel(0.1, 30),
    },
)
RELATED = Scenario(
    "related",
    "More like this",
    {"item_cf": Channel(1.0, 100), "content": Channel(0.7, 100), "hot_category": Channel(0.1, 30)},
    exclude_seen=False,
    ranked=False,
    from_context=True,
)
BUY_AGAIN = Scenario(
    "buy_again", "Buy it again", {"buy_again": Channel(1.0, 200)}, exclude_seen=False, ranked=False, diversity=0.0,
    caps=(),
)  # fmt: skip
BUILT_IN = (HOME, RELATED, BUY_AGAIN)


class Scenarios:
    """Every tenant has the built-in ones; a stored one of the same id takes its place."""

    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents, self._clock = documents, clock
        self._held: dict[str, tuple[float, dict[str, Scenario]]] = {}

    async def get(self, tenant: str, id: str) -> Scenario:
        """Raises UnknownScenario, which names the known ones."""
        known = await self._all(tenant)
        if id not in known:
            raise UnknownScenario(id, tenant, list(known))
        return known[id]

    async def list(self, tenant: str) -> list[Scenario]:
        """`home` first."""
        return list((await self._all(tenant)).values())

    async def put(self, tenant: str, scenario: Scenario) -> None:
        """In the place of one with the same id, also of a built-in one. Raises Unavailable."""
        body = scenario.public()
        (outcome,) = await self._documents.upsert(tenant, KIND, [Document(scenario.id, self._clock.now(), body)])
        if outcome is Outcome.STALE:
            raise Unavailable(f"scenario {scenario.id!r} was not written: the clock is behind the last write's")
        self._held.pop(tenant, None)

    async def _all(self, tenant: str) -> dict[str, Scenario]:
        now = self._clock.monotonic()
        held = self._held.get(tenant)
        if held is None or now - held[0] > FRESH_S:
            stored = [from_body(d.body) for d in await self._documents.find(tenant, KIND, limit=1000)]
            held = (now, {s.id: s for s in (*BUILT_IN, *stored)})
            self._held[tenant] = held
        return held[1]
