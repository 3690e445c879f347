"""The platform at a moment of the past: what it would have found then, and, to learn from, what was taken after it."""

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
from ray_app.models.base import Scene
from ray_app.recommend.budget import Budget
from ray_app.recommend.recall import Candidates, recall
from ray_app.registry.watch import ITEM_CF, Models
from ray_app.training.history import BOUGHT, History, visitors_at
from ray_app.training.kinds import KINDS
from ray_app.types import Mask, Matrix, Rows, Scores, Visitor

FEATURES = Features()
LEAST = 1e-9  # weight of a behaviour that says yes


@dataclass(frozen=True)
class Past:
    """The platform at `moment.now`: models fitted on what came before, and what each user took after it, unseen; of
    that, what was bought, and how long the rest was watched."""

    moment: Moment
    models: Models
    known: Mask
    visitors: dict[int, Visitor]
    wanted: dict[int, set[int]]
    bought: dict[int, set[int]]
    watched_s: dict[int, dict[int, float]]


@dataclass(frozen=True, slots=True)
class Example:
    """One visitor's candidates: features float32 [m, len(NAMES)] and what became of each, float32 [m, TASKS]: taken,
    bought (0 or 1), and the time watched in s."""

    user: int
    features: Matrix
    labels: Matrix
    candidates: Candidates
    visitor: Visitor

    @property
    def taken(self) -> Scores:
        return self.labels[:, 0]

    @property
    def scene(self) -> Scene:
        return Scene(self.features, self.candidates.rows, self.visitor)


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
    wanted, bought = (wanted_after(after, visitors, known, least) for least in (LEAST, BOUGHT))
    now = Moment(pinned, hot, at)
    return Past(now, models or Models(), known, visitors, wanted, bought, watched_after(after))


def wanted_after(
    after: History, visitors: dict[int, Visitor], known: Mask, least: float = LEAST
) -> dict[int, set[int]]:
    """By user the rows, known and new to the user, of behaviours that weigh `least` or more."""
    taken: dict[int, set[int]] = defaultdict(set)
    e = after.events
    for user, row, weight in zip(e.users.tolist(), e.rows.tolist(), e.weights.tolist(), strict=True):
        if known[row] and weight >= least:
            taken[user].add(row)
    new = {u: rows - set(visitors[u].seen.tolist()) for u, rows in taken.items() if u in visitors}
    return {u: rows for u, rows in sorted(new.items()) if rows}


def watched_after(after: History) -> dict[int, dict[int, float]]:
    """By user and row how long (s) was watched."""
    found: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    e, played = after.events, np.flatnonzero(after.watched_s > 0)
    for k in played.tolist():
        found[int(e.users[k])][int(e.rows[k])] += float(after.watched_s[k])
    return found


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
        yield Example(user, features, _labels(state, user, found.rows), found, visitor)


def _labels(state: Past, user: int, rows: Rows) -> Matrix:
    watched = state.watched_s.get(user, {})
    columns = [
        np.isin(rows, list(state.wanted[user])), np.isin(rows, list(state.bought.get(user, ()))),
        [watched.get(r, 0.0) for r in rows.tolist()],
    ]  # fmt: skip
    return np.stack([np.asarray(c, np.float32) for c in columns], axis=1)
