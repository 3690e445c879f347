"""Clicks predicted one after another: ml-latest-small, a rating of 4 or more is a click, by the rankers that serve.

Features stream: each is made from ratings that are strictly earlier than the one predicted (equal times see nothing of
each other). The models learn from the first 80% of the time and are frozen; settings were chosen on the last tenth of
that. `--permuted` gives the clicks of the whole file to other lines, and may find nothing (AUC .5); `--shuffled` gives
the times to other lines: if that found much more than the true order does, something would look ahead.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_app.models.calibration import platt, sigmoid
from ray_app.models.interval import interval
from ray_app.models.multitask import MOST_RECENT
from ray_app.models.probability import Predicted
from ray_app.training import multitask, trees
from ray_app.training.groups import Groups
from ray_app.training.multitask import Design
from ray_app.training.trees import Forest

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "ml-latest-small"
LIKED, SHARE, TUNED = 4.0, 0.8, 0.9
USUAL = 3.5
SPANS = (2, 5, 15, 50)
FLOORS = {"auc": 0.850, "gauc": 0.745}
NEURAL = Design(hidden=(32,), epochs=4, batch=256, learning_rate=1e-3, dropout=0.2, unknown=0.5)
NEIGHBOURS = 30


@dataclass
class Told:
    """What was rated by one user, of one item, or by one user in one genre: all of it earlier than what is asked."""

    n: int = 0
    liked: int = 0
    total: float = 0.0
    squares: float = 0.0
    beyond: float = 0.0  # sum of rating less what was expected
    logit: float = 0.0
    fast: float = 0.0
    first_at: float = 0.0
    last_at: float = 0.0
    visit: int = 0
    faded: NDArray[np.float64] = field(default_factory=lambda: np.array([USUAL] * 4 + [0.0] * 4 + [0.48] * 3))
    last: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return (self.total + 3 * USUAL) / (self.n + 3)

    @property
    def extra(self) -> float:
        return self.beyond / (self.n + 3)

    @property
    def spread(self) -> float:
        return math.sqrt(max(self.squares / self.n - (self.total / self.n) ** 2, 0.0)) if self.n else math.nan


@dataclass(frozen=True)
class Ratings:
    """Sorted by time: users, rows int, ratings, at (s); genres by row, years by row."""

    users: NDArray[np.int64]
    rows: NDArray[np.int64]
    ratings: NDArray[np.float64]
    at: NDArray[np.int64]
    genres: Sequence[Sequence[int]]
    years: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def liked(self) -> NDArray[np.float64]:
        return (self.ratings >= LIKED).astype(np.float64)


def read(shuffled: bool = False, permuted: bool = False) -> Ratings:
    found, films = pd.read_csv(FOLDER / "ratings.csv"), pd.read_csv(FOLDER / "movies.csv")
    drawn = np.random.default_rng(5)
    if shuffled:
        found["timestamp"] = drawn.permutation(found["timestamp"].to_numpy())
    found = found.sort_values(["timestamp", "userId", "movieId"], kind="stable")
    ratings = found["rating"].to_numpy(np.float64)
    ids, rows = np.unique(found["movieId"], return_inverse=True)
    about = films.set_index("movieId").loc[ids]
    names = sorted({g for line in about["genres"] for g in line.split("|")})
    years = about["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(float).to_numpy()
    return Ratings(
        np.unique(found["userId"], return_inverse=True)[1], rows, drawn.permutation(ratings) if permuted else ratings,
        found["timestamp"].to_numpy(), [[names.index(g) for g in line.split("|")] for line in about["genres"]], years,
    )  # fmt: skip


class Stream:
    """Features of a rating from those that `learn` was told before."""

    def __init__(self, r: Ratings) -> None:
        self._r = r
        self._users: dict[int, Told] = defaultdict(Told)
        self._items: dict[int, Told] = defaultdict(Told)
        self._tastes: dict[tuple[int, int], Told] = defaultdict(Told)  # of a user and a genre, or -1 - decade
        self._history: dict[int, list[tuple[int, float]]] = defaultdict(list)
        n = len(r.years)
        self._agreed, self._met = np.zeros((n, n), np.float32), np.zeros((n, n), np.uint16)

    def seen(self, k: int) -> list[float]:
        r, at = self._r, float(self._r.at[k])
        user, row = int(r.users[k]), int(r.rows[k])
        u, i, year = self._users[user], self._items[row], float(r.years[row])
        tastes = [self._tastes[user, g] for g in r.genres[row]]
        decade = self._tastes[user, -1 - int(np.nan_to_num(year)) // 10]
        logit = sum(t.logit for t in tastes)
        met = sum(t.n for t in tastes)
        now = 1970 + at / 86400 / 365.25
        return [
            u.mean, (u.liked + 1) / (u.n + 2), math.log1p(u.n), i.mean, (i.liked + 1) / (i.n + 2), math.log1p(i.n),
            i.extra, u.extra, *u.faded, u.spread, *(u.last[-q] if u.n >= q else math.nan for q in (1, 2, 3)),
            min(at - u.last_at, 1e7) if u.n else math.nan, at - u.first_at if u.n else math.nan,
            sum(t.beyond for t in tastes) / (met + 3), met / max(u.n, 1) / len(tastes),
            max(t.extra for t in tastes), min(t.extra for t in tastes), decade.extra, decade.n / max(u.n, 1),
            year, float(len(tastes)), i.n / (1 + (at - i.first_at) / 86400 / 365) if i.n else 0.0,
            i.last[-1] if i.n else math.nan, u.logit + i.logit + logit, u.logit, i.logit, logit, u.fast,
            i.spread, now - year, now, float(u.visit if at - u.last_at < 3600 else 0), *self._kin(user, row),
        ]  # fmt: skip

    def _kin(self, user: int, row: int) -> list[float]:
        """What the user thought of the items most alike, by whether others thought alike of both."""
        history = self._history[user]
        if not history:
            return [0.0] * 4
        rows, beyond = np.array([h[0] for h in history]), np.array([h[1] for h in history])
        met = np.log1p(self._met[row, rows])
        like = self._agreed[row, rows] / (self._met[row, rows] + 5.0)
        best = np.argsort(-np.abs(like))[:NEIGHBOURS]
        near = like[best]
        return [float(near @ beyond[best] / (np.abs(near).sum() + 0.3)), float(np.abs(near).sum()),
                float(like @ beyond), float(met @ beyond / (met.sum() + 2))]  # fmt: skip

    def learn(self, k: int) -> None:
        r, at, rating = self._r, float(self._r.at[k]), float(self._r.ratings[k])
        user, row, liked = int(r.users[k]), int(r.rows[k]), rating >= LIKED
        u, i = self._users[user], self._items[row]
        tastes = [self._tastes[user, g] for g in r.genres[row]]
        decade = self._tastes[user, -1 - int(np.nan_to_num(r.years[row])) // 10]
        usual = u.mean
        beyond = rating - usual - i.extra
        logit = sum(t.logit for t in tastes) + i.logit
        wrong, wrong_fast = liked - sigmoid(np.array(u.logit + logit)), liked - sigmoid(np.array(u.fast + logit))
        u.logit += max(0.08, 0.8 / (1 + 0.3 * u.n)) * float(wrong)
        u.fast += 0.35 * float(wrong_fast)
        i.logit += max(0.05, 0.9 / (1 + 0.4 * i.n)) * float(wrong)
        for t in tastes:
            t.logit += 0.08 * float(wrong) / math.sqrt(len(tastes))
        self._meet(user, row, float(np.clip(beyond, -2, 2)))
        if not u.n:
            u.faded[:4] = rating
        spans = np.array([*SPANS, *SPANS, 4, 12, 40])
        u.faded += (np.array([rating] * 4 + [beyond] * 4 + [liked] * 3) - u.faded) / spans
        u.visit = u.visit + 1 if at - u.last_at < 3600 else 1
        for told, more in [(u, beyond), (i, rating - usual), (decade, beyond), *((t, beyond) for t in tastes)]:
            _tell(told, rating, more, at)
        u.last.append(rating)
        i.last.append(rating - usual)

    def _meet(self, user: int, row: int, beyond: float) -> None:
        history = self._history[user]
        if history:
            rows, others = np.array([h[0] for h in history]), np.array([h[1] for h in history], np.float32)
            for a, b in ((row, rows), (rows, row)):
                self._agreed[a, b] += np.float32(beyond) * others
                self._met[a, b] += 1
        history.append((row, beyond))


def _tell(told: Told, rating: float, beyond: float, at: float) -> None:
    if not told.n:
        told.first_at = at
    told.n, told.liked, told.total = told.n + 1, told.liked + (rating >= LIKED), told.total + rating
    told.squares, told.beyond, told.last_at = told.squares + rating**2, told.beyond + beyond, at


def streamed(r: Ratings) -> Groups:
    """One group a rating, with the visitor's items of before, newest first, and their ratings as weights."""
    stream, n = Stream(r), len(r)
    found, history = [], defaultdict(list)
    recent = np.full((n, MOST_RECENT), -1, np.int32)
    weights, ages = np.zeros((n, MOST_RECENT), np.float32), np.zeros((n, MOST_RECENT), np.float32)
    ends = np.searchsorted(r.at, r.at, side="right")
    k = 0
    while k < n:
        together = range(k, int(ends[k]))
        for j in together:
            newest = history[int(r.users[j])][: -MOST_RECENT - 1 : -1]
            found.append(stream.seen(j))
            recent[j, : len(newest)], weights[j, : len(newest)] = r.rows[newest], r.ratings[newest]
            ages[j, : len(newest)] = r.at[j] - r.at[newest]
        for j in together:
            stream.learn(j)
            history[int(r.users[j])].append(j)
        k = int(ends[k])
    genres = np.zeros((n, 1 + max(g for line in r.genres for g in line)), np.float32)
    for j in range(n):
        genres[j, r.genres[int(r.rows[j])]] = 1.0
    features = np.concatenate([np.array(found, np.float32), genres], axis=1)
    labels = np.zeros((n, 1, 3), np.float32)
    labels[:, 0, 0] = r.liked
    names = np.array([f"u:{u}" for u in r.users.tolist()])
    there = np.ones((n, 1), np.bool_)
    return Groups(features[:, None], r.rows[:, None].astype(np.int32), there, labels, names, recent, weights, ages)


Fit = Callable[[Groups, Groups, int], Callable[[Groups], NDArray[Any]]]


def _trees(learned: Groups, held: Groups, seed: int) -> Callable[[Groups], NDArray[Any]]:
    model = trees.fit(learned, "trees", Forest(rounds=200, seed=seed))
    return lambda g: model._raw("click", g.features[:, 0])


def _network(change: Callable[[Design], Design]) -> Fit:
    def fitted(learned: Groups, held: Groups, seed: int) -> Callable[[Groups], NDArray[Any]]:
        how = change(replace(NEURAL, seed=seed))
        arrays = multitask.fit(learned, held, how)
        return lambda g: multitask.predict(arrays, g, how)

    return fitted


FITS: dict[str, Fit] = {
    "logistic": _network(lambda d: replace(d, hidden=(), size=0, attention=False, learning_rate=1e-2)),
    "trees": _trees,
    "multitask": _network(lambda d: replace(d, attention=False)),
    "attention": _network(lambda d: d),
}


def figures(logits: NDArray[Any], g: Groups, calibration: NDArray[Any]) -> dict[str, Any]:
    users, who = np.unique(g.names, return_inverse=True)
    told = Predicted(sigmoid(calibration[0] * logits + calibration[1]), g.labels[:, 0, 0], who, len(users))
    found: dict[str, Any] = {}
    for name, figure in told.figures().items():
        low, high = interval(figure, len(users))
        found[name] = round(figure(np.ones(len(users))), 4)
        found[f"{name}_interval"] = [round(low, 4), round(high, 4)]
    return found


def changed(g: Groups, how: str) -> Groups:
    """The same lines, where visitors have no recent items, or those of somebody else."""
    if how == "blanked":
        return replace(g, recent=np.full_like(g.recent, -1))
    other = np.random.default_rng(0).permutation(len(g))
    return replace(g, recent=g.recent[other], weights=g.weights[other], ages_s=g.ages_s[other])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--tune", action="store_true", help="judge on the last tenth of the training part instead")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=list(FITS), choices=list(FITS))
    args = parser.parse_args()
    began, whole = time.monotonic(), streamed(read(args.shuffled, args.permuted))
    cut = int(SHARE * len(whole))
    first, last = (int(TUNED * cut), cut) if args.tune else (cut, len(whole))
    held_from = int(TUNED * first)
    learned, held, judged = (whole.part(slice(*p)) for p in ((0, held_from), (held_from, first), (first, last)))
    print(f"{len(learned)} ratings to learn from, {len(held)} kept aside, {len(judged)} judged")
    for kind in args.kinds:
        every = [FITS[kind](learned, held, seed) for seed in range(1, args.seeds + 1)]

        def logits(g: Groups, every: list[Callable[[Groups], NDArray[Any]]] = every) -> NDArray[Any]:
            return np.mean([one(g) for one in every], axis=0)

        calibration = platt(logits(held), held.labels[:, 0, 0])
        print(json.dumps({"kind": kind, **figures(logits(judged), judged, calibration)}), flush=True)
        if kind == "attention":
            for how in ("blanked", "shuffled"):
                print(json.dumps({"history": how, **figures(logits(changed(judged, how)), judged, calibration)}))
    print(f"floors {FLOORS}, calibration .9 to 1.15; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
