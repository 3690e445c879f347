"""The recall channels that need no artifact of their own: content, similar, tags, hot, hot by category, new, buy
again, and the operator's list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from ray_app.catalog.scenario import Scenario
from ray_app.features.view import MEMORY_S, TASTE_S, Moment
from ray_app.models.top import first, none, pick, top
from ray_app.registry.watch import RECALLERS
from ray_app.types import DAY_MS, Mask, Scored, Visitor

Find = Callable[[Visitor, int, Mask, Moment], Scored]
LISTED = "listed"
MOST_SIMILAR = 5  # of the newest items whose neighbours are looked for
WIDER = 50  # more than are wanted: so many texts content looks closer at


def content(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """Alike by text to the recent items: the root of the mean square cosine to each, so that what is close to some of
    them stands above what is half alike to all, lifted by the root of the last fortnight's sum. Of the n + WIDER items
    nearest to the mean of their vectors, which one product finds."""
    vectors, recent = moment.pinned.vectors, visitor.recent
    if not vectors.size or not len(recent):
        return none("content")
    say, newest = visitor.interest(TASTE_S), vectors.take(recent)
    lifted = np.maximum(vectors.scores(say @ newest), 0.0) * moment.board.lift
    lifted[recent[:1] if visitor.context is not None else recent[:0]] = 0.0
    near, _ = top(lifted, n + WIDER, allowed)
    close = np.maximum(vectors.take(near) @ newest.T, 0.0)
    like = np.sqrt(np.square(close) @ say / say.sum()) * moment.board.lift[near]
    return Scored("content", *pick(near, like, n))


def hot(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """The hot score: sums that fade with age."""
    rows = first(moment.board.hottest, n, allowed)
    return Scored("hot", rows, moment.board.hot[rows])


def hot_category(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """The hot score, weighed by how much of the visitor's interest the category has."""
    pinned = moment.pinned
    if not len(visitor.recent):
        return none("hot_category")
    share = np.bincount(pinned.category[visitor.recent], visitor.interest(MEMORY_S), minlength=len(pinned.categories))
    return Scored("hot_category", *top(moment.board.hot * share[pinned.category], n, allowed))


def new(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """Newest first: the score is 1 for this moment and one half for a week ago."""
    rows = first(moment.pinned.newest, n, allowed)
    age_days = np.maximum(moment.now - moment.pinned.published_at[rows], 0) / DAY_MS
    return Scored("new", rows, (1.0 / (1.0 + age_days / 7.0)).astype(np.float32))


def buy_again(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """What the visitor bought, the often and long not bought first."""
    whole = np.zeros(len(allowed), np.float32)
    bought = visitor.counts > 0
    whole[visitor.recent[bought]] = visitor.counts[bought] * np.log1p(visitor.ages_s[bought] / 86400.0 + 1.0)
    return Scored("buy_again", *top(whole, n, allowed))


def similar(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """Nearest by text to each of the newest items by itself, so that two tastes are not met halfway: the likeness to
    the nearest of them, which fades with that one's age."""
    vectors, recent = moment.pinned.vectors, visitor.recent[:MOST_SIMILAR]
    if not vectors.size or not len(recent):
        return none("similar")
    say = visitor.interest(MEMORY_S)[:MOST_SIMILAR]
    like = np.zeros(len(allowed), np.float32)
    for vector, much in zip(vectors.take(recent), say, strict=True):
        np.maximum(like, much * vectors.scores(vector), out=like)
    like[recent] = 0.0
    return Scored("similar", *top(like, n, allowed))


def tags(visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """The visitor's interest in each of the item's tags, added up; a tag on few items says more."""
    mine = moment.pinned.tags
    if not len(visitor.recent) or not mine.any():
        return none("tags")
    known = np.bincount(mine.ravel())
    rare = np.log1p(len(mine) / np.maximum(known, 1)).astype(np.float32)
    say = np.repeat(visitor.interest(MEMORY_S), mine.shape[1])
    share = np.bincount(mine[visitor.recent].ravel(), say, minlength=len(known)).astype(np.float32) * rare
    share[0] = 0.0  # the place of a tag that is not there
    return Scored("tags", *top(share[mine].sum(axis=1), n, allowed))


def listed(items: tuple[str, ...], visitor: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
    """The operator's items in his order."""
    rows = moment.pinned.rows_of(items)
    rows = rows[allowed[rows]][:n]
    return Scored(LISTED, rows, (1.0 / np.arange(1, len(rows) + 1)).astype(np.float32))


LOCAL: Mapping[str, Find] = MappingProxyType(
    {
        "content": content, "similar": similar, "tags": tags, "hot": hot, "hot_category": hot_category, "new": new,
        "buy_again": buy_again,
    }
)  # fmt: skip
KNOWN = (*LOCAL, LISTED, *RECALLERS)  # what a scenario may name


def local(scenario: Scenario) -> Mapping[str, Find]:
    """The channels of this process, as this scenario has set them."""
    return {**LOCAL, LISTED: partial(listed, scenario.listed)}
