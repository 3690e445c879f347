"""A history split by time: what came before, to learn from, and what was taken after it, to judge by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.features.boards import board
from ray_app.features.view import Moment
from ray_app.registry.watch import Models
from ray_app.training.history import BOUGHT, History, visitors_at
from ray_app.training.past import FEATURES, LEAST, Past, state_at, wanted_after, watched_after
from ray_app.types import Interactions

LATER_S = 14 * 86400  # at the end: they judge; those before them choose
LEAST_VISITORS = 50  # with something new in it
NEWEST = 0.2  # of each visitor's behaviours, where hardly anybody comes back within a slice


@dataclass(frozen=True)
class Split:
    """`before`: what a fit may see. `state`: the platform at the cut, with what each visitor took after it."""

    before: History
    state: Past

    @property
    def learned(self) -> Interactions:
        """The behaviours of `before`."""
        return self.before.events


def last(history: History, pinned: Pinned) -> Split | None:
    """The last days; where too few visitors are back in them, the newest fifth of each visitor's behaviours. None
    where nothing is wanted either way. Its `before` can be split once more, to choose on."""
    if not len(history.events):
        return None
    end = int(history.events.at[-1]) + 1
    cut = end - 1 - LATER_S * 1000
    found = Split(history.before(cut), state_at(history, pinned, cut, end))
    if len(found.state.wanted) < LEAST_VISITORS:
        other = newest(history, pinned)
        found = other if len(other.state.wanted) > len(found.state.wanted) else found
    return found if len(found.learned) and found.state.wanted else None


def newest(history: History, pinned: Pinned) -> Split:
    """Each visitor as of the first behaviour held out; what others did is known up to the end. It is no honest figure
    of what serving will reach, but orders the ways of fitting."""
    e = history.events
    order = np.lexsort((e.at, e.users))
    count = np.bincount(e.users, minlength=e.n_users)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = np.empty(len(e), np.int64)
    place[order] = np.arange(len(e)) - first[e.users[order]]
    later = place >= np.ceil((1.0 - NEWEST) * count[e.users])
    before, after = history.part(~later), history.part(later)
    b, end = before.events, int(e.at[-1]) + 1
    begins = np.full(e.n_users, end, np.int64)
    np.minimum.at(begins, after.events.users, after.events.at)
    visitors = {
        u: replace(v, ages_s=np.maximum(v.ages_s - np.float32((end - begins[u]) / 1000.0), 0.0))
        for u, v in visitors_at(before, end).items()
    }
    known = pinned.published_at < end
    known[b.rows] = True
    hot = board((b.rows, b.at, b.weights), end, pinned.n, FEATURES.hot_half_life_s)
    wanted, bought = (wanted_after(after, visitors, known, least) for least in (LEAST, BOUGHT))
    now = Moment(pinned, hot, end)
    return Split(before, Past(now, Models(), known, visitors, wanted, bought, watched_after(after)))
