"""What a process that runs one stage alone works on: the same functions as inline, over its own shelf and models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ray_app.catalog.shelves import Shelves
from ray_app.clock import Clock
from ray_app.features.boards import Boards
from ray_app.features.view import Moment
from ray_app.recommend.budget import Budget
from ray_app.recommend.graph import Elsewhere, RankAnswer, RankAsk, RecallAsk, Recalled, RerankAsk
from ray_app.recommend.place import Judged
from ray_app.recommend.rank import judge_many
from ray_app.recommend.recall import recall
from ray_app.recommend.rerank import Reranked, rerank
from ray_app.registry.watch import Live, Models
from ray_app.types import Visitor

UNJUDGED = Judged(np.zeros(0, np.float32))


@dataclass(frozen=True)
class Station:
    """Recall and rerank: each of the two is asked in a process of its own, which follows the catalogue."""

    clock: Clock
    models: Callable[[str], Models]
    shelves: Shelves
    boards: Boards

    async def recall(self, ask: RecallAsk) -> Recalled | Elsewhere:
        pinned = (await self.shelves.of(ask.tenant)).pin()
        models = self.models(ask.tenant).at(ask.epoch)
        if pinned.epoch != ask.epoch or models is None:
            return Elsewhere(pinned.epoch)
        moment = Moment(pinned, self.boards.of(ask.tenant, pinned.n, pinned.epoch), self.clock.now())
        budget = Budget(self.clock, ask.left_s)
        trained = models.recallers
        visitor = known_to(ask.visitor, pinned.n)
        found = recall(visitor, ask.scenario, trained, ask.mask(pinned.n), moment, budget)
        return Recalled(found, tuple(budget.degraded))

    async def rerank(self, ask: RerankAsk) -> Reranked | Elsewhere:
        """Rows that this process does not know yet are left out."""
        pinned = (await self.shelves.of(ask.tenant)).pin()
        if pinned.epoch != ask.epoch:
            return Elsewhere(pinned.epoch)
        known = ask.rows < pinned.n
        return rerank(ask.rows[known], ask.scores[known], ask.plan, pinned)


@dataclass(frozen=True)
class ModelServer:
    """Rankers alone: neither a catalogue nor a board."""

    live: Live
    _read: set[str] = field(default_factory=set)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rank(self, asks: Sequence[RankAsk]) -> list[RankAnswer | Elsewhere]:
        """Each by the live ranker of its tenant that its scenario names, all of one ranker at once. Raises Unavailable
        for a tenant of which nothing could be read yet."""
        live = {tenant: await self._models(tenant) for tenant in dict.fromkeys(a.tenant for a in asks)}
        answers: dict[int, RankAnswer | Elsewhere] = {}
        for tenant, epoch, kind in dict.fromkeys((a.tenant, a.epoch, a.ranker) for a in asks):
            mine = [k for k, a in enumerate(asks) if (a.tenant, a.epoch, a.ranker) == (tenant, epoch, kind)]
            answers |= zip(mine, _ranked([asks[k] for k in mine], live[tenant]), strict=True)
        return [answers[k] for k in range(len(asks))]

    async def _models(self, tenant: str) -> Models:
        """Read at the first ask; who asks meanwhile waits, since "no ranker is live" is not known yet."""
        if tenant not in self._read:
            async with self._reading:
                if tenant not in self._read:
                    await self.live.refresh(tenant)
                    self._read.add(tenant)
        return self.live.of(tenant)


def _ranked(asks: Sequence[RankAsk], live: Models) -> Sequence[RankAnswer | Elsewhere]:
    """Of one epoch, by one ranker."""
    models = live.at(asks[0].epoch)
    if models is None:
        return [Elsewhere(live.epoch.id)] * len(asks)
    ranker = (models.ranked_by(asks[0].ranker) or models).ranker
    if ranker is None:
        return [RankAnswer(UNJUDGED, None)] * len(asks)
    judged = judge_many(ranker, [a.scene for a in asks], [a.score for a in asks])
    return [RankAnswer(j, ranker.version) for j in judged]


def known_to(visitor: Visitor, n: int) -> Visitor:
    """Without rows that a shelf of n rows does not have."""
    keep = visitor.recent < n
    if keep.all() and (visitor.context is None or visitor.context < n):
        return visitor
    context = visitor.context if visitor.context is not None and visitor.context < n else None
    return Visitor(
        visitor.name, visitor.recent[keep], visitor.weights[keep], visitor.ages_s[keep], visitor.counts[keep],
        visitor.seen[visitor.seen < n], context,
    )  # fmt: skip
