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
from ray_app.recommend.graph import RankAnswer, RankAsk, RecallAsk, Recalled, RerankAsk
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

    async def recall(self, ask: RecallAsk) -> Recalled:
        pinned = (await self.shelves.of(ask.tenant)).pin()
        moment = Moment(pinned, self.boards.of(ask.tenant, pinned.n), self.clock.now())
        budget = Budget(self.clock, ask.left_s)
        trained = self.models(ask.tenant).recallers
        visitor = known_to(ask.visitor, pinned.n)
        found = recall(visitor, ask.scenario, trained, ask.mask(pinned.n), moment, budget)
        return Recalled(found, tuple(budget.degraded))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        """Rows that this process does not know yet are left out."""
        pinned = (await self.shelves.of(ask.tenant)).pin()
        known = ask.rows < pinned.n
        return rerank(ask.rows[known], ask.scores[known], ask.plan, pinned)


@dataclass(frozen=True)
class ModelServer:
    """Rankers alone: neither a catalogue nor a board."""

    live: Live
    _read: set[str] = field(default_factory=set)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rank(self, asks: Sequence[RankAsk]) -> list[RankAnswer]:
        """Each by the live ranker of its tenant, all of a tenant at once. Raises Unavailable for a tenant of which
        nothing could be read yet."""
        answers: dict[int, RankAnswer] = {}
        for tenant in dict.fromkeys(a.tenant for a in asks):
            mine = [k for k, a in enumerate(asks) if a.tenant == tenant]
            ranker = (await self._models(tenant)).ranker
            scenes, scores = [asks[k].scene for k in mine], [asks[k].score for k in mine]
            judged = judge_many(ranker, scenes, scores) if ranker else [UNJUDGED] * len(mine)
            answers |= {k: RankAnswer(j, ranker.version if ranker else None) for k, j in zip(mine, judged, strict=True)}
        return [answers[k] for k in range(len(asks))]

    async def _models(self, tenant: str) -> Models:
        """Read at the first ask; who asks meanwhile waits, since "no ranker is live" is not known yet."""
        if tenant not in self._read:
            async with self._reading:
                if tenant not in self._read:
                    await self.live.refresh(tenant)
                    self._read.add(tenant)
        return self.live.of(tenant)


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
