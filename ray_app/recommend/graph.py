"""`placement: graph`: the three stages in processes of their own. What they are asked, and who asks them.

Rows of one epoch mean the same in every process; a process may be behind or ahead of the shelf that the request has
pinned. Who has the rows of another epoch says so, and is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_app.catalog.rows import FIRST
from ray_app.catalog.scenario import BEST, Scenario
from ray_app.clock import Clock
from ray_app.models.base import Scene
from ray_app.recommend.place import Judged
from ray_app.recommend.rank import POPULARITY, UNTRAINED
from ray_app.recommend.recall import Candidates
from ray_app.recommend.remote import Breaker
from ray_app.recommend.request import Request
from ray_app.recommend.rerank import Plan, Reranked
from ray_app.recommend.stages import plan, scene_of
from ray_app.registry.watch import RANKER
from ray_app.types import Degraded, Mask, Matrix, Rows, Scores, Visitor

SHARES = {"recall": 0.5, "rank": 0.5, "rerank": 1.0}  # of the time left: one that hangs leaves some to those behind it
Call = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class RecallAsk:
    """`fresh`: the eligibility mask of n rows of `epoch`, eight to a byte. `left_s`: of the request's time."""

    tenant: str
    visitor: Visitor
    scenario: Scenario
    fresh: bytes
    n: int
    left_s: float
    epoch: str = FIRST.id

    def mask(self, n: int) -> Mask:
        """bool [n]; rows that the asker does not know are not allowed."""
        known = np.unpackbits(np.frombuffer(self.fresh, np.uint8), count=self.n).astype(np.bool_)
        return known[:n] if n <= self.n else np.pad(known, (0, n - self.n))


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was found, and which channels were left out."""

    candidates: Candidates
    degraded: tuple[Degraded, ...] = ()


@dataclass(frozen=True, slots=True)
class RankAsk:
    """`score`: the scenario's expression over what the ranker predicts."""

    tenant: str
    scene: Scene
    score: str
    epoch: str = FIRST.id
    ranker: str = BEST


@dataclass(frozen=True, slots=True)
class RankAnswer:
    """What the ranker says of m candidates, and its version; None where no ranker is live."""

    judged: Judged
    version: str | None


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """rows int32 [m] of the candidates that are not pinned, with their scores float32 [m], in any order."""

    tenant: str
    rows: Rows
    scores: Scores
    plan: Plan
    epoch: str = FIRST.id


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Who was asked does not have the rows of the ask: those that it has are of this epoch."""

    epoch: str


class Graph:
    """Stages that are asked across processes, each behind a breaker and within the request's time. One that is away
    is left out: no candidates, the order of the merge, or the order of the scores."""

    def __init__(self, recall: Call, rank: Call, rerank: Call, clock: Clock) -> None:
        self._calls = dict(zip(SHARES, (recall, rank, rerank), strict=True))
        self._breakers = {stage: Breaker(clock) for stage in SHARES}

    async def recall(self, r: Request) -> Candidates:
        fresh = np.packbits(r.fresh).tobytes()
        ask = RecallAsk(r.tenant, r.visitor, r.scenario, fresh, len(r.fresh), r.budget.left_s(), r.moment.pinned.epoch)
        found: Recalled | None = await self._ask("recall", ask, r)
        if found is None:
            return Candidates(np.zeros(0, np.int32), np.zeros(0, np.float32), {})
        r.budget.degraded.extend(found.degraded)
        return found.candidates

    async def rank(self, r: Request, features: Matrix, candidates: Candidates) -> Judged:
        scene = scene_of(r, features, candidates)
        ask = RankAsk(r.tenant, scene, r.scenario.score, r.moment.pinned.epoch, r.scenario.ranker)
        found: RankAnswer | None = await self._ask("rank", ask, r)
        if found is None:
            return Judged(candidates.scores)
        if found.version is None:
            r.budget.versions[RANKER] = POPULARITY
            return Judged(UNTRAINED.lifted(scene))
        r.budget.versions[RANKER] = found.version
        return found.judged

    async def rerank(self, r: Request, rows: Rows, scores: Scores) -> Reranked:
        ask = RerankAsk(r.tenant, rows, scores, plan(r), r.moment.pinned.epoch)
        found: Reranked | None = await self._ask("rerank", ask, r)
        if found is None:
            best = rows[np.argsort(-scores, kind="stable")]
            return Reranked(best[: r.n], np.ones(min(r.n, len(best)), np.float32), {"rank": best})
        return found

    async def _ask(self, stage: str, ask: object, r: Request) -> Any:
        """None, and noted, for a stage that does not answer in time, or has other rows."""
        breaker = self._breakers[stage]
        if not breaker.allows():
            r.budget.degraded.append(Degraded(stage, "left alone after repeated failures"))
            return None
        try:
            async with asyncio.timeout(r.budget.left_s() * SHARES[stage]):
                answer = await self._calls[stage](ask)
        except Exception as e:
            breaker.failed()
            why = "took too long" if isinstance(e, TimeoutError) else f"{type(e).__name__}: {e}"[:200]
            r.budget.degraded.append(Degraded(stage, why))
            return None
        breaker.succeeded()
        if isinstance(answer, Elsewhere):
            r.budget.degraded.append(Degraded(stage, f"it has the rows of epoch {answer.epoch}, not of this answer's"))
            return None
        return answer
