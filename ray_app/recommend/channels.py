"""The recall channels that need no artifact of their own: content, hot, hot by category, new, buy again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from ray_app.features.view import MEMORY_S, Moment
from ray_app.models.top import first, top
from ray_app.types import Mask, Scored, Visitor

Find = Callable[[Visitor, int, Mask, Moment], Scored]


def content(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """Nearest to the visitor's mean text vector, lifted by the root of the last fortnight's sum."""
    vectors, recent = moment.pinned.vectors, visitor.recent
    if not vectors.size or not len(recent):
        return _none("content")
    like = vectors.scores(visitor.interest(MEMORY_S) @ vectors.take(recent))
    lifted = np.maximum(like, 0.0) * moment.board.lift
    lifted[recent[:1] if visitor.context is not None else recent[:0]] = 0.0
    return Scored("content", *top(lifted, n, allowed))


def hot(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """The hot score: sums that fade with age."""
    rows = first(moment.board.hottest, n, allowed)
    return Scored("hot", rows, moment.board.hot[rows])


def hot_category(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """The hot score, weighed by how much of the visitor's interest the category has."""
    pinned = moment.pinned
    if not len(visitor.recent):
        return _none("hot_category")
    share = np.bincount(pinned.category[visitor.recent], visitor.interest(MEMORY_S), minlength=len(pinned.categories))
    return Scored("hot_category", *top(moment.board.hot * share[pinned.category], n, allowed))


def new(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """Newest first: the score is 1 for this moment and one half for a week ago."""
    rows = first(moment.pinned.newest, n, allowed)
    age_days = np.maximum(moment.now - moment.pinned.published_at[rows], 0) / 86_400_000
    return Scored("new", rows, (1.0 / (1.0 + age_days / 7.0)).astype(np.float32))


def buy_again(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """What the visitor bought, the often and long not bought first."""
    whole = np.zeros(len(allowed), np.float32)
    bought = visitor.counts > 0
    whole[visitor.recent[bought]] = visitor.counts[bought] * np.log1p(visitor.ages_s[bought] / 86400.0 + 1.0)
    return Scored("buy_again", *top(whole, n, allowed))


LOCAL: Mapping[str, Find] = MappingProxyType(
    {"content": content, "hot": hot, "hot_category": hot_category, "new": new, "buy_again": buy_again}
)

KNOWN = (*LOCAL, "item_cf")  # what a scenario may name


def _none(channel: str) -> Scored:
    return Scored(channel, np.zeros(0, np.int32), np.zeros(0, np.float32))
