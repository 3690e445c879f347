"""Rerank: what freshness and rules add, diversity, caps and copies, exploration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.reranking import Freshness
from ray_app.catalog.rule import BOOST, BURY, Rule
from ray_app.catalog.scenario import Scenario
from ray_app.models.diversity import DIVERSIFIERS
from ray_app.recommend import draw, limits
from ray_app.types import Rows, Scores

POOL = 3  # times n candidates are compared with each other, and at least LEAST
LEAST = 60
RANK, BOOSTS, DIVERSITY, SLATE = "rank", "boosts", "diversity", "slate"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many are wanted, by which configuration, at what time (ms); `seed` is of all that is drawn."""

    n: int
    scenario: Scenario
    rules: tuple[Rule, ...] = ()
    now: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reranked:
    """rows int32 [at most n] in the order to show; propensities float32, of the same length: with which probability
    each came to its place. `steps`: the order of all candidates after each step that was run, for the trace."""

    rows: Rows
    propensities: Scores
    steps: Mapping[str, Rows] = field(default_factory=dict)


def rerank(rows: Rows, scores: Scores, plan: Plan, pinned: Pinned) -> Reranked:
    """rows int32 [m], scores float32 [m], in any order. What a limit left out comes only where nothing else is left."""
    s, size = plan.scenario, max(LEAST, POOL * plan.n)
    order: Rows = np.argsort(-scores, kind="stable").astype(np.int32)
    rows, worth = rows[order], _relevance(scores[order], size)
    steps = {RANK: rows}
    added = _added(rows, plan, pinned)
    if added is not None:
        worth = worth + added
        order = np.argsort(-worth, kind="stable").astype(np.int32)
        rows, worth = rows[order], worth[order]
        steps[BOOSTS] = rows
    same = limits.copies_of(rows, s.duplicate_likeness, size, pinned)
    if s.diversity > 0:
        order = _diverse(rows, worth, plan, size, pinned)
        rows, worth, same = rows[order], worth[order], None if same is None else same[order]
        steps[DIVERSITY] = rows
    sets = limits.of(s.caps, plan.rules, rows, plan.n, pinned)
    if same is not None:
        sets.append(limits.Limit("copies", same, 1))
    rng = np.random.default_rng(plan.seed) if s.exploration else None
    chosen, said = draw.fill(worth, plan.n, sets, s.exploration, rng)
    return Reranked(rows[chosen], said, {**steps, SLATE: rows[chosen]})


def _relevance(scores: Scores, pool: int) -> Scores:
    """The best 1, the last of the pool 0, so that `diversity` and boosts mean the same for every ranker. Scores may lie
    as far apart as float32 allows: what is no number for a scenario's expression is the lowest."""
    if not len(scores):
        return scores
    low, high = float(scores[:pool][-1]), float(scores[0])
    found = (scores.astype(np.float64) - low) / max(high - low, 1e-9)
    return np.maximum(found, np.finfo(np.float32).min).astype(np.float32)


def _added(rows: Rows, plan: Plan, pinned: Pinned) -> Scores | None:
    """float32 [m], what freshness and rules add to the relevance; None where nothing does."""
    rules = [r for r in plan.rules if r.action in (BOOST, BURY)]
    fresh = plan.scenario.freshness
    if not rules and fresh is None:
        return None
    total = np.zeros(len(rows), np.float32) if fresh is None else _fresh(rows, fresh, plan.now, pinned)
    return total + by_rules(rows, rules, pinned) if rules else total


def _fresh(rows: Rows, how: Freshness, now: int, pinned: Pinned) -> Scores:
    age_s = np.maximum(now - pinned.published_at[rows], 0) / 1000.0
    return np.asarray(how.weight * np.exp2(-age_s / how.half_life_s), np.float32)


def by_rules(rows: Rows, rules: Sequence[Rule], pinned: Pinned) -> Scores:
    """float32 [m]: by the first of the rules that is about the item."""
    total, free = np.zeros(len(rows), np.float32), np.ones(len(rows), np.bool_)
    for rule in rules:
        mine = free & pinned.fits(rows, rule.items)
        total[mine] = rule.amount if rule.action == BOOST else -rule.amount
        free &= ~mine
    return total


def _diverse(rows: Rows, worth: Scores, plan: Plan, pool: int, pinned: Pinned) -> Rows:
    """The pool's order by the scenario's diversifier, and behind it the rest as it stood: positions int32 [m]."""
    s = plan.scenario
    pick = DIVERSIFIERS[s.diversifier]
    first = pick(worth[:pool], pinned.vectors.take(rows[:pool]), 2 * plan.n, s.diversity)
    left = np.ones(len(rows), np.bool_)
    left[first] = False
    return np.concatenate([first, np.flatnonzero(left).astype(np.int32)])
