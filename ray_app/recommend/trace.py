"""The decision trace: how one slate came to be, from the channels to the last place, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.rule import CAP, HIDE, PIN, Rule
from ray_app.features.view import NAMES
from ray_app.recommend import Decision
from ray_app.recommend.place import Ranked
from ray_app.recommend.request import Request
from ray_app.types import Rows, Slate

MOST = 500  # candidates and places of a channel that a trace names
Plain = dict[str, Any]


def trace_of(decision: Decision) -> Plain:
    """JSON values. Places count from 0; `candidates` come in the order of the merge, with their features in the order
    of `features`. `moves` of a step of reranking name the candidates whose place it changed, and both places."""
    slate, request, ranked = decision.slate, decision.request, decision.ranked
    found = _head(slate, decision.stages_ms)
    if request is None or ranked is None:
        return found
    pinned = request.moment.pinned
    return {
        **found,
        "channels": [_channel(name, s.rows, s.scores, pinned) for name, s in ranked.candidates.found.items()],
        "features": list(NAMES) if len(ranked.features) else [],
        "candidates": list(_candidates(ranked, pinned)),
        "rerank": list(_steps(ranked, pinned)),
        "rules": [applied(rule, request, ranked) for rule in request.rules],
    }


def _head(slate: Slate, stages_ms: Mapping[str, float]) -> Plain:
    return {
        "request_id": slate.request_id,
        "scenario": slate.scenario,
        "visitor": slate.visitor,
        "answered_at": slate.answered_at,
        "arms": dict(slate.arms),
        "versions": dict(slate.versions),
        "degraded": [
            {"stage": d.stage, "reason": d.reason, **({"channel": d.channel} if d.channel else {})}
            for d in slate.degraded
        ],
        "stages_ms": dict(stages_ms),
        "items": [
            {"item_id": i.item_id, "place": k, "score": short(i.score), "channels": list(i.channels),
             "propensity": short(i.propensity)}
            for k, i in enumerate(slate.items)
        ],
    }  # fmt: skip


def _channel(name: str, rows: Rows, scores: NDArray[np.float32], pinned: Pinned) -> Plain:
    return {"channel": name, "found": len(rows), "items": _named(rows, pinned), "scores": _shorts(scores)}


def _candidates(ranked: Ranked, pinned: Pinned) -> Iterator[Plain]:
    c, whole = ranked.candidates, len(ranked.features) > 0
    merged = _shorts(c.scores)
    for k, name in enumerate(_named(c.rows, pinned)):
        values = _shorts(ranked.features[k]) if whole else []
        yield {"item_id": name, "merged": merged[k], "scores": said_of(ranked, k), "features": values}


def said_of(ranked: Ranked, k: int) -> dict[str, float]:
    """The score of candidate k, and what the ranker predicted for each task."""
    tasks = {task: short(float(values[k])) for task, values in ranked.judged.tasks.items()}
    return {"score": short(float(ranked.scores[k])), **tasks}


def _steps(ranked: Ranked, pinned: Pinned) -> Iterator[Plain]:
    for (_, before), (name, after) in pairwise(ranked.reranked.steps.items()):
        was = {row: k for k, row in enumerate(before.tolist())}
        moved = [(row, was[row], k) for k, row in enumerate(after[:MOST].tolist()) if was.get(row, k) != k]
        yield {"step": name, "moves": [{"item_id": pinned.ids[r], "from": a, "to": b} for r, a, b in moved]}


def applied(rule: Rule, request: Request, ranked: Ranked) -> Plain:
    """What the rule did: the pinned, the candidates that it is about, or how many items it hid."""
    pinned = request.moment.pinned
    said: Plain = {"rule": rule.id, "action": rule.action, "priority": rule.priority}
    if rule.action == HIDE:
        return {**said, "hidden": int((pinned.matching(rule.items) & pinned.available).sum())}
    rows = np.fromiter(ranked.pins, np.int32) if rule.action == PIN else ranked.candidates.rows
    said["items"] = _named(rows[pinned.fits(rows, rule.items)], pinned)
    return {**said, "most": rule.most, "window": rule.window} if rule.action == CAP else said


def _named(rows: Rows, pinned: Pinned) -> list[str]:
    return [pinned.ids[r] for r in rows[:MOST].tolist()]


def _shorts(values: NDArray[np.float32] | Sequence[float]) -> list[float]:
    return [short(v) for v in np.asarray(values, np.float64)[:MOST].tolist()]


def short(value: float) -> float:
    """Six digits: what a person reads, at half the size."""
    return float(f"{value:.6g}")
