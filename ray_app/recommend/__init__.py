"""The answer: recall, rank, rerank, and the fallback behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from ray_app.catalog import lists
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.rule import HIDE, Rule, Rules
from ray_app.catalog.scenario import Channel, Scenario, Scenarios
from ray_app.catalog.shelves import Shelves
from ray_app.clock import Clock
from ray_app.errors import LemoError, Overloaded, Unavailable
from ray_app.features.boards import Boards
from ray_app.features.profile import Profile
from ray_app.features.view import Moment
from ray_app.recommend import popular, remote
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.recommend.place import Ranked, place
from ray_app.recommend.rank import POPULARITY
from ray_app.recommend.remote import Remote
from ray_app.recommend.request import Request
from ray_app.recommend.request_id import RequestIds
from ray_app.recommend.stages import INLINE, Stages, decide
from ray_app.recommend.visitor import as_visitor, read_profile
from ray_app.registry.watch import RANKER, Models
from ray_app.types import Degraded, Placed, Slate

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.stores.base import Documents

CALM, MOST_OPEN = 16, 1000  # requests in hand: up to CALM each gets all its candidates; beyond MOST_OPEN none is taken
LEAST_CANDIDATES = 50
LOADING_SHARE = 0.5  # of the budget may go into waiting for a catalogue


@dataclass(frozen=True)
class Parts:
    """What an answer is made of, for every tenant."""

    documents: Documents
    shelves: Shelves
    boards: Boards
    scenarios: Scenarios
    rules: Rules
    models: Callable[[str], Models]
    redis: Redis
    prefix: Callable[[], str]
    clock: Clock
    ids: RequestIds
    new_id: Callable[[], str]
    remote: Mapping[str, Remote] = field(default_factory=dict)
    stages: Stages = INLINE


@dataclass(frozen=True, slots=True)
class Decision:
    """A slate and how it came to be; the last two are None where no catalogue was loaded. `stages_ms`: milliseconds by
    stage, in order."""

    slate: Slate
    stages_ms: Mapping[str, float]
    request: Request | None = None
    ranked: Ranked | None = None


class Recommender:
    """Answers requests of every tenant, and counts those in hand: load takes candidates before it takes answers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open = 0

    async def recommend(self, tenant: str, ask: Ask) -> Slate:
        """The slate of `decide`."""
        return (await self.decide(tenant, ask)).slate

    async def decide(self, tenant: str, ask: Ask) -> Decision:
        """Ranked items for one request, and how they were found.

        A channel, the profile or a catalogue that is slow or fails is left out, and `slate.degraded` says so. Raises
        UnknownScenario, Unavailable when scenarios cannot be read, and Overloaded when too many requests are in hand;
        before that, fewer candidates are ranked.
        Between the edges only rows (int32) and scores (float32) travel.
        """
        if self._open >= MOST_OPEN:
            raise Overloaded(f"{self._open} requests are in hand; allowed: {MOST_OPEN}. Try again later")
        self._open += 1
        try:
            return await self._answer(tenant, ask)
        finally:
            self._open -= 1

    async def _answer(self, tenant: str, ask: Ask) -> Decision:
        p, unique = self._parts, self._parts.new_id()
        scenario = relieved(await p.scenarios.get(tenant, ask.scenario), self._open)
        rules = await p.rules.of(tenant, ask.scenario)
        budget = Budget(p.clock, scenario.budget_s)
        id = p.ids.make(unique, ask.scenario)
        pinned = await self._pinned(tenant, budget)
        models = p.models(tenant).at(pinned.epoch) if pinned else None  # of this moment: both move at once
        with budget.stage("profile"):
            known = await read_profile(p.redis, p.prefix(), tenant, ask, budget)
        slate = Slate(id, tenant, ask.scenario, ask.visitor, p.clock.now(), ())
        if pinned is None:
            items = await self._unloaded(slate, ask, scenario, rules, known, budget)
            return Decision(replace(slate, items=items, degraded=tuple(budget.degraded)), budget.stages)
        if models is None:
            budget.degraded.append(Degraded("catalog", "its rows are older than every model; it is loading"))
            models = Models()
        models = _ranked_by(scenario, models, budget)
        moment = Moment(pinned, p.boards.of(tenant, pinned.n, pinned.epoch), p.clock.now())
        request = replace(requested(ask, scenario, known, models, moment, budget), seed=seed_of(id), tenant=tenant)
        request = governed(request, rules)
        ranked = await decide(request, await remote.gather(p.remote, request), p.stages)
        items = place(request, ranked)
        versions = {**named(models, scenario), **budget.versions}
        made = replace(slate, items=items, degraded=tuple(budget.degraded), versions=versions)
        return Decision(made, budget.stages, request, ranked)

    async def _pinned(self, tenant: str, budget: Budget) -> Pinned | None:
        shelf = self._parts.shelves.held(tenant)
        if shelf is None:
            try:
                shelf = await asyncio.wait_for(self._parts.shelves.of(tenant), budget.left_s() * LOADING_SHARE)
            except Exception as e:
                why = "the catalogue is still loading" if isinstance(e, TimeoutError) else str(e)[:200]
                budget.degraded.append(Degraded("catalog", why))
                return None
        return shelf.pin()

    async def _unloaded(
        self, slate: Slate, ask: Ask, scenario: Scenario, rules: tuple[Rule, ...], known: Profile, budget: Budget
    ) -> tuple[Placed, ...]:
        """What the documents hold of the scenario's popular list, or of any items; none where they do not answer."""
        p, tenant = self._parts, slate.tenant
        try:
            async with asyncio.timeout(budget.left_s()):
                made = await lists.popular(p.documents, tenant, scenario.id)
                pins = [pin.item_id for pin in scenario.pins]
                moment = await popular.part(p.documents, tenant, made, pins, p.clock.now())
        except (TimeoutError, LemoError, OSError):
            return ()
        what = "some of its items" if made is None else "the scenario's popular list, as the job precompute made it"
        budget.degraded.append(Degraded("recall", f"without the catalogue: {what}"))
        hot = replace(scenario, channels={"hot": Channel(1.0, lists.MOST)}, ranked=False, diversity=0.0)
        request = requested(ask, hot, known, Models(), moment, budget)
        request = governed(replace(request, seed=seed_of(slate.request_id)), rules)
        return place(request, await decide(request, {}, INLINE))

    async def popular(self, tenant: str, scenario_id: str, category: str = "") -> tuple[list[str], int | None]:
        """Ids that may be shown now, the most popular first, and when a job put them in order (ms): None where none
        did, so that the hot score of this moment has. Raises UnknownScenario and Unavailable, also where no job has
        made a list and the catalogue is not loaded in time."""
        p = self._parts
        scenario, rules = await p.scenarios.get(tenant, scenario_id), await p.rules.of(tenant, scenario_id)
        made = await lists.popular(p.documents, tenant, scenario_id, category)
        budget = Budget(p.clock, scenario.budget_s)
        pinned = await self._pinned(tenant, budget)
        if pinned is not None:
            moment = Moment(pinned, p.boards.of(tenant, pinned.n, pinned.epoch), p.clock.now())
        elif made is not None:
            moment = await popular.part(p.documents, tenant, made, (), p.clock.now())
        else:
            why = budget.degraded[-1].reason
            raise Unavailable(f"{why}, and the job precompute has made no list of this. Run it, or try again later")
        return popular.eligible(made, scenario, rules, category, moment), None if made is None else made.made_at


def _ranked_by(scenario: Scenario, models: Models, budget: Budget) -> Models:
    """With the ranker that the scenario names; with the best one where no version of that is live."""
    found = models.ranked_by(scenario.ranker)
    if found is None and scenario.ranked:
        why = f"no version of ranker {scenario.ranker!r} is live: the best one ranks. Run the job train"
        budget.degraded.append(Degraded("rank", why))
    return found or models


def requested(ask: Ask, scenario: Scenario, known: Profile, models: Models, moment: Moment, budget: Budget) -> Request:
    """The ask as rows of the pinned shelf."""
    visitor = as_visitor(ask, known, moment.pinned, moment.now, scenario.from_context)
    allowed = moment.pinned.eligible(ask.filters, tuple(scenario.hidden) + ask.exclude)
    if visitor.context is not None:
        allowed[visitor.context] = False
    fresh = allowed.copy()
    if scenario.exclude_seen:
        fresh[visitor.seen] = False
    return Request(ask.n, visitor, scenario, models, moment, budget, allowed, fresh)


def governed(request: Request, rules: tuple[Rule, ...]) -> Request:
    """With the rules in force; what they hide is not eligible."""
    hidden = [request.moment.pinned.matching(r.items) for r in rules if r.action == HIDE]
    for mask in hidden:
        request.allowed[mask] = False
        request.fresh[mask] = False
    return replace(request, rules=rules)


def seed_of(request_id: str) -> int:
    """What is drawn by chance for an answer can be drawn again from its id."""
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest())


def relieved(scenario: Scenario, in_hand: int) -> Scenario:
    """With fewer candidates while more than CALM requests are in hand."""
    if in_hand <= CALM:
        return scenario
    least = min(LEAST_CANDIDATES, scenario.candidates)
    return replace(scenario, candidates=max(least, scenario.candidates * CALM // in_hand))


def named(models: Models, scenario: Scenario) -> Mapping[str, str]:
    """Versions as answers carry them: before the first training the ranker is popularity."""
    if scenario.ranked and models.ranker is None:
        return {**models.versions, RANKER: POPULARITY}
    return models.versions
