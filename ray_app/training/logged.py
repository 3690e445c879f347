"""Answers as they were logged: what visitors saw, with the features of that moment, and what they did with it.

Examples to learn from beside those of the history, and to judge by. The features are the logged ones to the bit; only
who asked is made again, from what the history knew of the visitor when the answer was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ray_app.analytics.examples import Asked, confirmed_answers
from ray_app.analytics.examples import examples as shown
from ray_app.catalog.pinned import Pinned
from ray_app.features.view import IDENTITY, NAMES, VIEW
from ray_app.models.base import Ranker
from ray_app.recommend.recall import Candidates
from ray_app.training.builds import columns, source_of
from ray_app.training.history import History, Journal
from ray_app.training.judge import bounded, predicted
from ray_app.training.past import Example
from ray_app.training.report import Tell
from ray_app.training.stores import Stores
from ray_app.training.weeks import SLICES, Slicing, day
from ray_app.types import DAY_MS, DAY_S

SLATES = "slates"  # the source of a dataset that is made of them
LEAST = 200  # answers of which something was taken; with fewer they neither teach nor judge
MOST = 10_000  # answers that are read; of more, evenly some
WINDOW_MS, SPAN_MS = DAY_MS, 7 * DAY_MS
NEEDED = (
    "request_id", "item_id", "visitor", "answered_at", "position", "score", "features", "versions", "clicked",
    "converted", "watch_time",
)  # fmt: skip
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Logged:
    """`examples` by time, `at` int64 [n]: when each was answered (ms). `names`: of the visitors by number, first those
    of the history; an answer to somebody unknown has a visitor of its own. `others`: answers left out, whose features
    are of another view. `source`: the table or the build that they are of; "" where none were read."""

    examples: Sequence[Example] = ()
    at: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    names: tuple[str, ...] = ()
    others: int = 0
    source: str = ""

    def between(self, since: int, until: int) -> Sequence[Example]:
        """Of the answers in [since, until), in ms."""
        first, last = np.searchsorted(self.at, [since, until])
        return self.examples[int(first) : int(last)]

    def teaching(self, cut: int, tell: Tell) -> Sequence[Example]:
        """What may be learned where `cut` begins what judges: answers whose windows had ended by then, none where too
        few of them tell anything. Says which it is."""
        if not self.source:
            tell("history alone teaches: no logged answers were asked for")
            return ()
        found = self.between(0, cut - WINDOW_MS + 1)
        taken = _taken(found)
        if self.others:
            tell(f"{self.others:,} logged answers are left out: their features are of another view")
        if taken < LEAST:
            tell(f"history alone teaches: of {len(found):,} logged answers before {day(cut)} something was taken of "
                 f"{taken:,}, and {LEAST} are needed")  # fmt: skip
            return ()
        tell(f"history teaches, and {len(found):,} logged answers; something was taken of {taken:,}")
        return found

    def judged(self, rankers: Mapping[str, Ranker | None], cut: int, tell: Tell) -> dict[str, float]:
        """AUC and GAUC, over and within answers from `cut` on, of each ranker by the prefix of its figures, with their
        bounds over answers; {} where too few tell anything."""
        found = self.between(cut, int(self.at[-1]) + 1) if len(self.at) else ()
        metrics: dict[str, float] = {}
        for prefix, ranker in rankers.items() if _taken(found) >= LEAST else ():
            if ranker is not None:
                of = predicted([ranker.predict(e.scene)[:, 0] for e in found], found)
                metrics |= bounded({"auc": of.auc, "gauc": of.gauc}, len(found), 0, prefix)
        known = {name: value for name, value in metrics.items() if not np.isnan(value)}
        if known:
            said = [f"{n} {v:.4f}" for n, v in known.items() if not n.endswith(("_low", "_high"))]
            tell(f"on {len(found):,} logged answers from {day(cut)} on: {', '.join(said)}")
        return known

    def about(self, taught: Sequence[Example]) -> dict[str, Any]:
        """For the lineage of what learned from `taught`."""
        return {"source": self.source, "answers": len(taught), "taken": _taken(taught), "other_view": self.others}


def _taken(found: Sequence[Example]) -> int:
    return sum(bool(e.taken.any()) for e in found)


async def is_of_slates(stores: Stores, tenant: str, dataset: str | None) -> bool:
    """Whether the dataset's newest build is made of them."""
    return dataset is not None and await asyncio.to_thread(source_of, stores.blobs, tenant, dataset) == SLATES


async def read(
    stores: Stores, tenant: str, history: History, pinned: Pinned, how: Slicing, dataset: str | None = None
) -> Logged:
    """Confirmed answers of the scenario whose windows are over, from SLICES weeks before the newest slice until its
    end; `dataset`: of its newest build instead of the live table. Raises Unavailable, and as builds.columns."""
    if not len(history.events):
        return Logged()
    end = int(history.events.at[-1]) + 1
    since = end - how.label_days * DAY_MS - SLICES * SPAN_MS
    if dataset is None:
        until = min(end, stores.clock.now() - WINDOW_MS)
        found, source = await _read(stores, Asked(tenant, since, until, DAY_S, how.scenario.id)), SLATES
    else:
        build, every = await asyncio.to_thread(columns, stores.blobs, tenant, dataset)
        until = min(end, int(build.partition("-")[2]) - WINDOW_MS)
        found, source = _within(every, how.scenario.id, since, until), f"{dataset}/{build}"
    return await asyncio.to_thread(made, found, pinned, history, source)


async def _read(stores: Stores, asked: Asked) -> Columns:
    """A week at a time, so that no more than that is ever held as lists of numbers."""
    counts = await confirmed_answers(stores.olap, asked)
    many = sum(c["confirmed"] for c in counts if c["scenario"] == asked.scenario)
    parts = []
    for since in range(asked.since, asked.until, SPAN_MS) if many else ():
        until = min(since + SPAN_MS, asked.until)
        week = replace(asked, since=since, until=until, one_in=-(-many // MOST))
        if some := await shown(stores.olap, week):
            parts.append({**{c: some[c] for c in NEEDED}, "features": _packed(some["features"])})
    return {c: np.concatenate([p[c] for p in parts]) for c in NEEDED} if parts else {}


def _within(found: Columns, scenario: str, since: int, until: int) -> Columns:
    """Of a build, whose features are lists too."""
    if not found:
        return {}
    keep = (found["scenario"] == scenario) & (found["answered_at"] >= since) & (found["answered_at"] < until)
    ids = np.unique(found["request_id"][keep].astype(str))
    some = ids[:: max(1, -(-len(ids) // MOST))]
    keep &= np.isin(found["request_id"].astype(str), some)
    return {**{c: found[c][keep] for c in NEEDED}, "features": _packed(found["features"][keep])}


def _packed(features: NDArray[Any]) -> NDArray[Any]:
    return np.fromiter((np.array(f, np.float32) for f in features), object, len(features))


def made(found: Columns, pinned: Pinned, history: History, source: str) -> Logged:
    """The examples of the rows that the query `examples` finds, in any order. What has no row any more, and what no
    channel had found, is left out of its answer; an answer whose features are not of the view that stands is left out
    and counted."""
    numbers = {name: k for k, name in enumerate(history.visitors)}
    journal, examples, at, others = Journal(history), list[Example](), list[int](), 0
    for one in _answers(found):
        if not _stands(one):
            others += 1
            continue
        if (example := _example(one, pinned, journal, numbers)) is not None:
            examples.append(example)
            at.append(int(one["answered_at"][0]))
    return Logged(examples, np.array(at, np.int64), tuple(numbers), others, source)


def _answers(found: Columns) -> Iterator[Columns]:
    """By time, each with its items from the first on."""
    if not found:
        return
    ids = found["request_id"].astype(str)
    order = np.lexsort((found["position"], ids, found["answered_at"]))
    starts = np.flatnonzero(ids[order][1:] != ids[order][:-1]) + 1
    for places in np.split(order, starts) if len(order) else ():
        yield {c: found[c][places] for c in NEEDED}


def _stands(one: Columns) -> bool:
    """Whether the features are of the view that stands now."""
    view = orjson.loads(str(one["versions"][0])).get(VIEW)
    return bool(view == IDENTITY) and all(len(f) in (0, len(NAMES)) for f in one["features"])


def _example(one: Columns, pinned: Pinned, journal: Journal, numbers: dict[str, int]) -> Example | None:
    rows = np.array([pinned.rows.get(i, -1) for i in one["item_id"]], np.int32)
    keep = (rows >= 0) & np.array([len(f) > 0 for f in one["features"]])
    if not keep.any():
        return None
    bought, watched_s = one["converted"][keep] > 0, one["watch_time"][keep]
    taken = (one["clicked"][keep] > 0) | bought | (watched_s > 0)
    labels = np.stack([taken, bought, watched_s], axis=1).astype(np.float32)
    name = str(one["visitor"][0])
    number = numbers.setdefault(name or str(one["request_id"][0]), len(numbers))  # nobody known: one of his own
    visitor = journal.before(name, int(one["answered_at"][0]))
    candidates = Candidates(rows[keep], one["score"][keep].astype(np.float32), {})
    return Example(number, np.stack(one["features"][keep]), labels, candidates, visitor)
