"""The view: the features of each candidate, read by training and by serving through this one function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.features.boards import DAYS, Board
from ray_app.types import DAY_MS, DAY_S, Matrix, Rows, Scored, Scores, Visitor

CHANNELS = (
    "item_cf", "content", "hot", "hot_category", "new", "factors", "two_tower", "covisit", "similar", "tags",
    "precomputed",
)  # fmt: skip
SCORED = ("item_cf", "content", "factors", "two_tower", "covisit")  # whose scores mean the same from visitor to visitor
NAMES = (
    *(f"{c}_place" for c in CHANNELS),
    *(f"{c}_{of}" for c in SCORED for of in ("score", "share")), "merged",
    *(f"hot_{d}d" for d in DAYS),
    *(f"trend_{a}d_{b}d" for a, b in pairwise(DAYS)),
    "age", "price", "price_above_usual", "price_from_usual",
    "likeness", "likeness_all", "likeness_last", "category_share", "popularity_above", "history", "away",
)  # fmt: skip
VIEW = "view"  # in a logged slate's `versions`: of which view its features are
IDENTITY = blake2b("\n".join(NAMES).encode(), digest_size=6).hexdigest()  # what changes its meaning needs a new name
PLACE = 10.0  # a channel's place p becomes PLACE / (PLACE + p), 0 where the channel did not find the item
MEMORY_S = 60 * DAY_S
TASTE_S = 400 * DAY_S  # half-life of what the text of an item says of its taker: longer than of what comes next
MOST_LIKENESS = 32  # of the newest items with which a candidate's text is compared


@dataclass(frozen=True, slots=True)
class Moment:
    """What a request sees besides its visitor: the catalogue, the boards, and the time (ms)."""

    pinned: Pinned
    board: Board
    now: int


def view(visitor: Visitor, rows: Rows, found: Mapping[str, Scored], merged: Scores, moment: Moment) -> Matrix:
    """float32 [len(rows), len(NAMES)]. `merged`: the score of each row in the merge; `found` by channel."""
    columns = [_place(found.get(c), rows, moment.pinned.n) for c in CHANNELS]
    for name in SCORED:
        columns += _score(found.get(name), rows, moment.pinned.n)
    columns += [100.0 * merged, *moment.board.popularity[rows].T, *_item(visitor, rows, moment)]
    columns += [*_kinship(visitor, rows, moment.pinned), _popularity_above(visitor, rows, moment)]
    away = max(float(visitor.ages_s[0]) / DAY_S, 0.0) if len(visitor.recent) else 0.0
    columns += [np.full(len(rows), np.log1p(said), np.float32) for said in (len(visitor.seen), away)]
    whole = np.empty((len(rows), len(columns)), np.float32)
    for k, column in enumerate(columns):
        whole[:, k] = column
    return whole


def _place(found: Scored | None, rows: Rows, n: int) -> Scores:
    if found is None:
        return np.zeros(len(rows), np.float32)
    place = np.zeros(n, np.float32)
    place[found.rows] = PLACE / (PLACE + np.arange(len(found.rows), dtype=np.float32))
    return place[rows]


def _score(found: Scored | None, rows: Rows, n: int) -> list[Scores]:
    if found is None or not len(found.rows):
        return [np.zeros(len(rows), np.float32)] * 2
    whole = np.zeros(n, np.float32)
    whole[found.rows] = found.scores
    mine = whole[rows]
    return [np.log1p(mine), mine / max(float(found.scores[0]), 1e-9)]


def _item(visitor: Visitor, rows: Rows, moment: Moment) -> list[Scores]:
    pinned = moment.pinned
    age = np.log1p(np.maximum(moment.now - pinned.published_at[rows], 0) / DAY_MS).astype(np.float32)
    price = pinned.log_price[rows]
    usual, say = pinned.log_price[visitor.recent], visitor.interest(MEMORY_S)
    above = price - np.float32((usual * say).sum() / say.sum()) if len(say) else np.zeros(len(rows), np.float32)
    return [age, price, above, np.abs(above)]


def _kinship(visitor: Visitor, rows: Rows, pinned: Pinned) -> list[Scores]:
    """How near the text is to the nearest of the newest items, in the mean square to all recent ones, and to the
    nearest of the last visit; and how much of the interest its category has."""
    if not len(visitor.recent):
        return [np.zeros(len(rows), np.float32)] * 4
    alike = [np.zeros(len(rows), np.float32)] * 3
    if pinned.vectors.size:
        near = np.maximum(pinned.vectors.take(rows) @ pinned.vectors.take(visitor.recent).T, 0.0)
        say = visitor.interest(TASTE_S)
        alike = [near[:, :MOST_LIKENESS].max(axis=1), np.sqrt(np.square(near) @ say / say.sum()),
                 near[:, : _last_visit(visitor)].max(axis=1)]  # fmt: skip
    share = np.bincount(pinned.category[visitor.recent], visitor.interest(MEMORY_S), minlength=len(pinned.categories))
    return [*alike, (share / max(float(share.sum()), 1e-9))[pinned.category[rows]].astype(np.float32)]


def _popularity_above(visitor: Visitor, rows: Rows, moment: Moment) -> Scores:
    """How much more was taken of it in the longest window than of what the visitor takes, in logarithms."""
    if not len(visitor.recent):
        return np.zeros(len(rows), np.float32)
    taken, say = moment.board.popularity[:, len(DAYS) - 1], visitor.interest(TASTE_S)
    return np.asarray(taken[rows] - taken[visitor.recent] @ say / say.sum(), np.float32)


def _last_visit(visitor: Visitor) -> int:
    """How many of the recent items are of the last day on which there was one."""
    return int(np.searchsorted(visitor.ages_s, visitor.ages_s[0] + DAY_S, side="right"))
