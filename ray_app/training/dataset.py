"""Training examples: what the platform would have found at a moment of the past, and what was taken after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import Scenario
from ray_app.clock import FixedClock
from ray_app.config import Features
from ray_app.features.boards import board
from ray_app.features.view import Moment, view
from ray_app.models import itemcf
from ray_app.recommend.budget import Budget
from ray_app.recommend.recall import Candidates, recall
from ray_app.registry.watch import ITEM_CF, Models
from ray_app.training.history import History, visitors_at
from ray_app.training.kinds import KINDS
from ray_app.types import Mask, Matrix, Visitor

FEATURES = Features()


@dataclass(frozen=True)
class Past:
    """The platform at `moment.now`: models fitted on what came before, and what each user took after it, unseen."""

    moment: Moment
    models: Models
    known: Mask
    visitors: dict[int, Visitor]
    wanted: dict[int, set[int]]


@dataclass(frozen=True, slots=True)
class Example:
    """One visitor's candidates: features float32 [m, len(NAMES)] and whether each was taken, float32 [m]."""

    user: int
    features: Matrix
    taken: np.ndarray[tuple[int], np.dtype[np.float32]]
    candidates: Candidates


def past(
    history: History, pinned: Pinned, at: int, until: int, models: Models | None = None, features: Features = FEATURES
) -> Past:
    """`state_at` with every channel of `models` that learns, and item CF, fitted on what came before `at`."""
    state = state_at(history, pinned, at, until, models, features)
    before, known = history.before(at).events, {ITEM_CF: itemcf.USUAL}
    known |= {name: model.variant for name, model in state.models.recallers.items() if name in KINDS}
    found = {name: KINDS[name].fit(v, before, at, pinned) for name, v in known.items()} if len(before) else {}
    return replace(state, models=replace(state.models, recallers=found))


def state_at(
    history: History, pinned: Pinned, at: int, until: int, models: Models | None = None, features: Features = FEATURES
) -> Past:
    """The state at `at`, labelled with [at, until). Nothing that came after `at` is used but the labels.

    An item is known when it was published or taken before `at`. `features`: how serving adds the hot sums up.
    """
    before, after = history.before(at), history.between(at, until)
    e = before.events
    buckets = e.at - e.at % (features.hot_bucket_s * 1000)
    hot = board((e.rows, buckets, e.weights), at, pinned.n, features.hot_half_life_s)
    known = pinned.published_at < at
    known[e.rows] = True
    visitors = visitors_at(before, at)
    return Past(Moment(pinned, hot, at), models or Models(), known, visitors, wanted_after(after, visitors, known))


def wanted_after(after: History, visitors: dict[int, Visitor], known: Mask) -> dict[int, set[int]]:
    """By user number what each visitor took anew of the known items."""
    taken: dict[int, set[int]] = defaultdict(set)
    e = after.events
    for user, row, weight in zip(e.users.tolist(), e.rows.tolist(), e.weights.tolist(), strict=True):
        if known[row] and weight:
            taken[user].add(row)
    new = {u: rows - set(visitors[u].seen.tolist()) for u, rows in taken.items() if u in visitors}
    return {u: rows for u, rows in sorted(new.items()) if rows}


def examples(state: Past, scenario: Scenario, most: int = 4000) -> Iterator[Example]:
    """One per user with something wanted; users beyond `most` are left out evenly."""
    users = list(state.wanted)
    for user in users[:: max(1, -(-len(users) // most))]:
        visitor = state.visitors[user]
        allowed = state.known.copy()
        allowed[visitor.seen] = False
        budget = Budget(FixedClock(), 1.0)
        found = recall(visitor, scenario, state.models.recallers, allowed, state.moment, budget)
        features = view(visitor, found.rows, found.found, found.scores, state.moment)
        taken = np.isin(found.rows, list(state.wanted[user])).astype(np.float32)
        yield Example(user, features, taken, found)
