"""Demand by week: how much of each dish a store sold, and what is known before a week of what it will sell in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_app.types import DAY_MS

Floats = NDArray[np.float64]
WEEK_MS = 7 * DAY_MS
HELD = 4  # the last weeks, which judge
FIRST = 8  # weeks behind the first one that is learned of
LEAST_WEEKS, LEAST_DISHES = 12, 5
YEAR_WEEKS = 365.25 / 7
FEATURES = (
    "smoothed", "lag_1", "lag_2", "lag_3", "lag_4", "mean_4", "mean_8", "mean_13", "mean_all", "median_8", "median_13",
    "median_26", "share_4", "share_13", "share_all", "store_last", "store_trend", "season_sin", "season_cos",
    "store_level", "store_share",
)  # fmt: skip
LOGS = [k for k, name in enumerate(FEATURES) if name.startswith(("smoothed", "lag", "mean", "median", "store_level"))]
MIDDLE, WIDTH = 1.5, 2.0  # of logarithms of quantities
FADE = 0.25  # of the smoothed demand, by week


@dataclass(frozen=True, slots=True)
class Sales:
    """`sold`: float64 [dishes, weeks], the last week ends at `until` (ms). Only dishes that were sold in at least
    LEAST_WEEKS of the weeks before the last HELD: what is sold twice a year has no weekly demand to learn of."""

    dishes: tuple[str, ...]
    sold: Floats
    until: int


@dataclass(frozen=True, slots=True)
class Rows:
    """One a dish and week, none of a store with fewer than LEAST_DISHES: `known` before the week, float64
    [n, FEATURES], and what was `sold` in it, float64 [n]."""

    known: Floats
    sold: Floats

    def __len__(self) -> int:
        return len(self.sold)


def sales(dishes: Sequence[str], at: Sequence[int], quantities: Sequence[float], until: int) -> Sales:
    """Of one store's order lines; `at` in ms, those from `until` on are left out."""
    names, which = np.unique(np.asarray(dishes, np.str_), return_inverse=True)
    weeks_ago = (until - 1 - np.asarray(at, np.int64)) // WEEK_MS
    weeks = int(weeks_ago.max()) + 1 if len(weeks_ago) else 0
    sold, past = np.zeros((len(names), max(weeks, HELD))), weeks_ago >= 0
    column = sold.shape[1] - 1 - weeks_ago[past]
    np.add.at(sold, (which[past], column), np.asarray(quantities, np.float64)[past])
    keep = (sold[:, :-HELD] > 0).sum(axis=1) >= LEAST_WEEKS
    return Sales(tuple(names[keep].tolist()), sold[keep], until)


def learned(of: Sales) -> Rows:
    """The weeks before the last HELD."""
    return _rows(of, range(FIRST, of.sold.shape[1] - HELD))


def judged(of: Sales) -> Rows:
    """The last HELD weeks, each forecast from the weeks before it."""
    return _rows(of, range(max(FIRST, of.sold.shape[1] - HELD), of.sold.shape[1]))


def known(of: Sales, week: int) -> Floats:
    """Before week number `week` of `of`, which may be the one after the last: float64 [dishes, FEATURES]. Quantities
    are logarithms, so that a large store's numbers are of a small one's size, moved and scaled by constants alone:
    what they were normalised by would travel."""
    past = np.log1p(of.sold[:, :week])
    sold, n = of.sold[:, :week] > 0, len(of.sold)
    whole = np.log1p(of.sold[:, :week].sum(axis=0))
    fading = (1 - FADE) ** np.arange(week)[::-1]
    turn = 2 * np.pi * (of.until / WEEK_MS + week - of.sold.shape[1]) / YEAR_WEEKS
    columns = [
        past @ (fading / fading.sum()),
        *(past[:, -k] for k in (1, 2, 3, 4)),
        *(past[:, -k:].mean(axis=1) for k in (4, 8, 13, week)),
        *(np.median(past[:, -k:], axis=1) for k in (8, 13, 26)),
        *(sold[:, -k:].mean(axis=1) for k in (4, 13, week)),
        *(np.full(n, value) for value in (
            whole[-1] - whole[-8:].mean(), whole[-4:].mean() - whole.mean(), np.sin(turn), np.cos(turn),
            past.mean() if n else 0.0, sold.mean() if n else 0.0,
        )),
    ]  # fmt: skip
    found = np.stack(columns, axis=1)
    found[:, LOGS] = (found[:, LOGS] - MIDDLE) / WIDTH
    return found


def plain(before: Floats) -> Floats:
    """The forecast without a model, of what `known` says: the mean of the last four weeks' logarithms."""
    return np.asarray(np.expm1(before[:, FEATURES.index("mean_4")] * WIDTH + MIDDLE))


def _rows(of: Sales, weeks: range) -> Rows:
    if not len(weeks) or len(of.sold) < LEAST_DISHES:
        return Rows(np.zeros((0, len(FEATURES))), np.zeros(0))
    return Rows(np.concatenate([known(of, w) for w in weeks]), np.concatenate([of.sold[:, w] for w in weeks]))


def wape(forecast: Floats, sold: Floats) -> float:
    """Absolute errors by what was sold; 1 is the error of forecasting nothing. NaN where nothing was sold."""
    return float(np.abs(forecast - sold).sum() / sold.sum()) if sold.sum() > 0 else float("nan")
