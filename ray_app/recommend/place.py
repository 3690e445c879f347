"""The items of a slate: what was picked, the operator's pins, what fills up to n, and why each is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ray_app.recommend import fallback
from ray_app.recommend.pins import pin
from ray_app.recommend.reasons import Reasons, channels_of
from ray_app.recommend.recall import Candidates
from ray_app.recommend.request import Request
from ray_app.recommend.rerank import Reranked
from ray_app.types import Degraded, Matrix, Placed, Rows, Scores


@dataclass(frozen=True, slots=True)
class Judged:
    """scores float32 [m], higher is better, and by the name of a task what the ranker predicted: float32 [m] each."""

    scores: Scores
    tasks: Mapping[str, Scores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates with their features and judgements; what reranking made of them; position by row of what is
    pinned, which reranking has left out. `shadow`: scores of the ranker beside the live one."""

    candidates: Candidates
    features: Matrix
    judged: Judged
    reranked: Reranked
    pins: Mapping[int, int] = field(default_factory=dict)
    shadow: Scores | None = None

    @property
    def scores(self) -> Scores:
        """float32 [candidates]."""
        return self.judged.scores

    @property
    def picked(self) -> Rows:
        """int32 [at most n], in the order to show, before pins."""
        return self.reranked.rows


def place(r: Request, ranked: Ranked) -> tuple[Placed, ...]:
    """At most r.n items; fewer only when no more are eligible."""
    pins = ranked.pins
    rows, extra = _filled(r, pin(ranked.picked, pins, r.n))
    rows = pin(rows, pins, r.n)
    named = channels_of(rows, ranked.candidates, r.scenario)
    reasons = Reasons(rows, r.visitor, r.moment.pinned, r.models.recallers)
    at = {row: k for k, row in enumerate(ranked.candidates.rows.tolist())}
    said = dict(zip(ranked.picked.tolist(), ranked.reranked.propensities.tolist(), strict=True))
    items = []
    for row in rows.tolist():
        channels = ("pinned",) if row in pins else named[row] or (extra[row],)
        score, features, shadow = _said(ranked, at.get(row))
        why = reasons.of(row, channels[0])
        items.append(Placed(r.moment.pinned.ids[row], score, channels, why, features, shadow, said.get(row, 1.0)))
    return tuple(items)


def _filled(r: Request, rows: Rows) -> tuple[Rows, dict[int, str]]:
    """Up to r.n rows, and by row of those that fill up whether it is a fallback or was seen."""
    filled = fallback.fill(rows, r.n, r.fresh, r.moment)
    rows = np.concatenate([rows, filled])
    seen = fallback.fill(rows, r.n, r.allowed, r.moment)
    if len(seen):
        r.budget.degraded.append(Degraded("recall", "nothing unseen is left: seen items fill the slate"))
    extra = {**dict.fromkeys(filled.tolist(), "fallback"), **dict.fromkeys(seen.tolist(), "seen")}
    return np.concatenate([rows, seen]).astype(np.int32), extra


def _said(ranked: Ranked, k: int | None) -> tuple[float, tuple[float, ...], float | None]:
    """Of the candidate in place k: the score, the features that it was made of, and the shadow's score; 0 and none for
    another row."""
    if k is None:
        return 0.0, (), None
    features = tuple(ranked.features[k].tolist()) if len(ranked.features) else ()
    return float(ranked.scores[k]), features, None if ranked.shadow is None else float(ranked.shadow[k])
