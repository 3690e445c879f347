"""The answer: recall, rank, rerank, and the fallback behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import Scenario, Scenarios
from ray_app.catalog.shelves import Shelves
from ray_app.clock import Clock
from ray_app.features.boards import Board, Boards
from ray_app.features.view import Moment, view
from ray_app.recommend import fallback, remote
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.recommend.rank import POPULARITY, rank
from ray_app.recommend.reasons import Reasons, channels_of
from ray_app.recommend.recall import Candidates, merge, recall
from ray_app.recommend.remote import Remote
from ray_app.recommend.request_id import RequestIds
from ray_app.recommend.rerank import pin, rerank
from ray_app.recommend.visitor import as_visitor, read_profile
from ray_app.registry.watch import Models
from ray_app.types import Degraded, Mask, Matrix, Placed, Rows, Scores, Slate, Visitor

if TYPE_CHECKING:
    from redis.asyncio import Redis


@dataclass(frozen=True)
class Parts:
    """What an answer is made of, for every tenant."""

    shelves: Shelves
    boards: Boards
    scenarios: Scenarios
    models: Callable[[str], Models]
    redis: Redis
    prefix: str
    clock: Clock
    ids: RequestIds
    new_id: Callable[[], str]
    remote: Mapping[str, Remote] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates with their features and scores, and the rows picked from them in the order to show."""

    candidates: Candidates
    features: Matrix
    scores: Scores
    picked: Rows


class Recommender:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def recommend(self, tenant: str, ask: Ask) -> Slate:
        """Ranked items for one request.

        Never raises for a slow or failed part: it is left out, and `slate.degraded` says so. Raises UnknownScenario.
        Between the edges only rows (int32) and scores (float32) travel.
        """
        p = self._parts
        scenario = await p.scenarios.get(tenant, ask.scenario)
        budget = Budget(p.clock, scenario.budget_s)
        pinned = await self._pinned(tenant, budget)
        with budget.stage("profile"):
            known = await read_profile(p.redis, p.prefix, tenant, ask, budget)
        if pinned is None:
            return self._slate(tenant, ask, (), budget, {})
        now, models = p.clock.now(), p.models(tenant)
        moment = Moment(pinned, p.boards.of(tenant, pinned.n), now)
        visitor = as_visitor(ask, known, pinned, now, scenario.from_context)
        allowed = pinned.eligible(ask.filters, tuple(scenario.hidden) + ask.exclude)
        if visitor.context is not None:
            allowed[visitor.context] = False
        fresh = allowed.copy()
        if scenario.exclude_seen:
            fresh[visitor.seen] = False
        far = await self._far(scenario, visitor, fresh, moment, budget)
        ranked = choose(visitor, scenario, models, fresh, moment, budget, ask.n, far)
        items = self._place(ask.n, ranked, visitor, scenario, (allowed, fresh), moment, models, budget)
        return self._slate(tenant, ask, items, budget, models.versions)

    async def _pinned(self, tenant: str, budget: Budget) -> Pinned | None:
        shelf = self._parts.shelves.held(tenant)
        if shelf is None:
            try:
                shelf = await asyncio.wait_for(self._parts.shelves.of(tenant), budget.left_s())
            except Exception as e:
                why = "the catalogue is still loading" if isinstance(e, TimeoutError) else str(e)[:200]
                budget.degraded.append(Degraded("catalog", why))
                return None
        return shelf.pin()

    async def _far(
        self, scenario: Scenario, visitor: Visitor, fresh: Mask, moment: Moment, budget: Budget
    ) -> Mapping[str, Any]:
        if not self._parts.remote:
            return {}
        quotas = {name: c.quota for name, c in scenario.channels.items()}
        return await remote.gather(self._parts.remote, quotas, visitor, fresh, moment, budget)

    def _place(
        self,
        n: int,
        ranked: Ranked,
        visitor: Visitor,
        scenario: Scenario,
        masks: tuple[Mask, Mask],
        moment: Moment,
        models: Models,
        budget: Budget,
    ) -> tuple[Placed, ...]:
        """The slate's items: what was picked and the pins, what fills up to n, and then each pin at its position."""
        allowed, fresh = masks
        rows = pin(ranked.picked, allowed, n, scenario, moment.pinned)
        pins = {moment.pinned.row_of(x.item_id) for x in scenario.pins}
        filled = fallback.fill(rows, n, fresh, moment)
        rows = np.concatenate([rows, filled])
        seen = fallback.fill(rows, n, allowed, moment)
        if len(seen):
            budget.degraded.append(Degraded("recall", "nothing unseen is left: seen items fill the slate"))
        rows = pin(np.concatenate([rows, seen]).astype(np.int32), allowed, n, scenario, moment.pinned)
        named = channels_of(rows, ranked.candidates, scenario)
        extra = {**dict.fromkeys(filled.tolist(), "fallback"), **dict.fromkeys(seen.tolist(), "seen")}
        reasons = Reasons(rows, visitor, moment.pinned, models.recallers)
        at = {r: k for k, r in enumerate(ranked.candidates.rows.tolist())}
        items = []
        for row in rows.tolist():
            channels = ("pinned",) if row in pins else named[row] or (extra.get(row, "fallback"),)
            k = at.get(row)
            features = () if k is None or not len(ranked.features) else tuple(ranked.features[k].tolist())
            score = 0.0 if k is None else float(ranked.scores[k])
            items.append(Placed(moment.pinned.ids[row], score, channels, reasons.of(row, channels[0]), features))
        return tuple(items)

    def _slate(
        self, tenant: str, ask: Ask, items: tuple[Placed, ...], budget: Budget, versions: Mapping[str, str]
    ) -> Slate:
        p = self._parts
        debug = {"stages_ms": budget.stages} if ask.debug else None
        return Slate(
            p.ids.make(p.new_id(), ask.scenario), tenant, ask.scenario, ask.visitor, p.clock.now(), items,
            tuple(budget.degraded), {}, versions, debug,
        )  # fmt: skip


def choose(
    visitor: Visitor,
    scenario: Scenario,
    models: Models,
    allowed: Mask,
    moment: Moment,
    budget: Budget,
    n: int,
    far: Mapping[str, Any] | None = None,
) -> Ranked:
    """Recall, rank and rerank for one visitor; the evaluator calls it too, so that what is measured is what serves."""
    with budget.stage("recall"):
        candidates = recall(visitor, scenario, models.recallers, allowed, moment, budget)
        if far:
            found = {**candidates.found, **far}
            candidates = merge(found, scenario.channels, scenario.candidates, moment.pinned.n)
    features, scores = np.zeros((0, 0), np.float32), candidates.scores
    if scenario.ranked and len(candidates.rows):
        with budget.stage("features"):
            features = view(visitor, candidates.rows, candidates.found, candidates.scores, moment)
        with budget.stage("rank"):
            scores = rank(models.ranker, features, candidates, moment.board, budget)
    with budget.stage("rerank"):
        picked = rerank(candidates.rows, scores, n, scenario, moment.pinned)
    return Ranked(candidates, features, scores, picked)


__all__ = ["POPULARITY", "Board", "Parts", "Ranked", "Recommender", "choose"]
