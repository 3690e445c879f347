"""Evaluate: what serves, what stands beside it, and what needs no training, on the newest slice of the history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ray_app.catalog.scenario import HOME, Scenario, Scenarios
from ray_app.errors import Unavailable
from ray_app.features.view import NAMES
from ray_app.models.base import Ranker
from ray_app.models.interval import mean
from ray_app.models.popularity import Popularity
from ray_app.registry.registry import Registry
from ray_app.registry.version import Version, epoch_of
from ray_app.registry.watch import RANKER, RECALLERS, Live, ranker_of
from ray_app.training.judge import K, Slice, bounded, judge, of_clicks, of_lists
from ray_app.training.kinds import KINDS
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.scorecard import FOUND, Score, footnotes, said, tables
from ray_app.training.stores import Stores, catalogue, history
from ray_app.training.weeks import LEAST_USERS, Slicing, weeks
from ray_app.types import Rows

NAME = "evaluation"
CALIBRATED = ("log_loss", "calibration")  # say something of probabilities that were made to be such alone


@dataclass(frozen=True, slots=True)
class Asked:
    """`label_days`: length of the slice. `dataset`: its newest build instead of the live tables. `versions`: of the
    ranker, beside the live one and the shadow."""

    label_days: int = 14
    dataset: str | None = None
    versions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Contender:
    """`version` is None for what needs no training, `ranker` where one cannot be loaded, for the reason `why`."""

    name: str
    ranker: Ranker | None
    version: Version | None = None
    why: str = ""


async def evaluate(stores: Stores, tenant: str, tell: Tell, asked: Asked = Asked()) -> Report:
    """Tell the tables, and report the figures of what serves; `seen` among them is 1 where it may have learned from the
    slice. Nothing is written. Raises NotFound for a version that is not there."""
    found = await contenders(stores.registry, tenant, asked.versions)
    watch = Live(stores.registry)
    pinned = await catalogue(stores, watch, tenant)
    scenario = await Scenarios(stores.documents, stores.clock).get(tenant, HOME.id)
    how = Slicing(scenario, asked.label_days, stores.settings.features)
    try:
        events, _ = await history(stores, tenant, pinned, asked.dataset)
        on = await asyncio.to_thread(lambda: next(weeks(events, pinned, watch.of(tenant), how, tell), None))
        if on is None:
            raise Refused(
                f"too little history: in its last {how.label_days} days at least {LEAST_USERS} visitors, known before "
                "them, must have taken something new; --label-days N takes another length"
            )
    except Refused as e:
        return Report(NAME, None, why=str(e))
    judged = await asyncio.to_thread(lambda: list(scores(found, scenario, on, tell)))
    for line in (*tables(judged, on), *footnotes(judged, on)):
        tell(line)
    serves, version = judged[0], found[0].version
    if serves.why:
        return Report(NAME, None, why=f"{serves.name} cannot be judged: {serves.why}")
    metrics = {**serves.figures, "seen": float(serves.seen)}
    return Report(NAME, version.id if version else Popularity.kind, metrics, said(serves), status="judged")


async def contenders(registry: Registry, tenant: str, ids: Sequence[str] = ()) -> list[Contender]:
    """What serves first: the live version, or popularity where there is none; then the shadow, the versions of these
    ids, and popularity. Each once."""
    now = await registry.pointer(tenant, RANKER)
    named = {id: f"version {id}" for id in ids} | {now.shadow: f"shadow {now.shadow}", now.live: f"live {now.live}"}
    order = [id for id in dict.fromkeys((now.live, now.shadow, *ids)) if id]
    versions = [await registry.get(tenant, RANKER, id) for id in order]
    found = [await _of_version(registry, tenant, named[v.id], v, now.epoch) for v in versions]
    return sorted([*found, Contender(Popularity.kind, Popularity("", NAMES))], key=lambda c: not _serves(c, now.live))


def _serves(one: Contender, live: str) -> bool:
    return (one.version.id if one.version else "") == live


async def _of_version(registry: Registry, tenant: str, name: str, version: Version, epoch: str) -> Contender:
    if epoch_of(version) != epoch:
        return Contender(name, None, version, f"its rows are those of epoch {epoch_of(version)}, {epoch} is live")
    try:
        ranker = await asyncio.to_thread(ranker_of, version, await registry.load(tenant, version))
    except Unavailable:  # the store's fault and not the version's
        raise
    except Exception as e:  # whatever a foreign artifact can raise
        return Contender(name, None, version, f"{type(e).__name__}: {e}"[:300])
    return Contender(f"{name}, {ranker.kind}", ranker, version)


def scores(found: Sequence[Contender], scenario: Scenario, on: Slice, tell: Tell) -> Iterator[Score]:
    """Of the contenders in their order, the merged order of the channels, and each channel of the scenario alone."""
    for one in found:
        yield _of_ranker(one, on)
        tell(f"judged: {one.name}")
    order = [e.candidates.rows for e in on.examples]
    by_score = of_clicks([e.candidates.scores for e in on.examples], on)
    yield Score("merged order", _of_rows(order, on) | _ordered(by_score))
    tell("judged: merged order")
    for name in scenario.channels:
        yield _of_channel(name, on)
        tell(f"judged: channel {name}")


def _of_ranker(one: Contender, on: Slice) -> Score:
    if one.ranker is None:
        return Score(one.name, version=one.version, why=one.why)
    figures = judge(one.ranker, on)
    if one.version is None:
        return Score(one.name, _ordered(figures))
    return Score(one.name, figures, one.version, on.seen_by(one.version.about))


def _ordered(figures: dict[str, float]) -> dict[str, float]:
    """Without those of probabilities."""
    return {k: v for k, v in figures.items() if not k.startswith(CALIBRATED)}


def _of_channel(channel: str, on: Slice) -> Score:
    name, none = f"channel {channel}", np.zeros(0, np.int32)
    if channel in RECALLERS and channel not in on.state.models.recallers:
        fits = channel in KINDS
        return Score(name, why="no version of it is live" if fits else "its lists are of today, not of the slice's day")
    found = [e.candidates.found.get(channel) for e in on.examples]
    return Score(name, _of_rows([none if f is None else f.rows for f in found], on))


def _of_rows(rows: Sequence[Rows], on: Slice) -> dict[str, float]:
    """Of candidates by example, best first: their K best as a list, and how many of the wanted are among all."""
    share = [len(w.intersection(map(str, r.tolist()))) / len(w) for w, r in zip(on.wanted, rows, strict=True)]
    lists = [[str(r) for r in some[:K].tolist()] for some in rows]
    return of_lists(lists, on) | bounded({FOUND: mean(np.array(share))}, len(share), 0)
