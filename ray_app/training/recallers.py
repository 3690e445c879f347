"""Channels that learn: variants compared on one slice of time, the best judged on the next, the gate, and then the
fit on all that goes live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import Scenarios
from ray_app.errors import InvalidField
from ray_app.models.base import Recaller
from ray_app.models.evaluate import evaluate
from ray_app.registry.version import Version
from ray_app.registry.watch import EMBEDDER, Live
from ray_app.training import gate, similarity, splits
from ray_app.training.gate import Made
from ray_app.training.history import History
from ray_app.training.kinds import KINDS
from ray_app.training.past import Past
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.shards import Run
from ray_app.training.similarity import Sharing
from ray_app.training.splits import Split
from ray_app.training.stores import Ground, Stores, catalogue, history, origin_of

K = 20
MOST_JUDGED = 4000  # visitors of a slice, evenly
ALONE = Sharing()


async def learn(
    stores: Stores, tenant: str, name: str, tell: Tell, sharing: Sharing = ALONE, dataset: str | None = None
) -> Report:
    """Fit the channel `name` on the newest build of `dataset`, or on the live tables, and promote it, or say why not.

    A fit in parts that was killed goes on where it was; one with the input of the live version changes nothing.
    Raises InvalidField for a channel that does not learn.
    """
    if name not in KINDS:
        raise InvalidField("channel", name, ", ".join(KINDS))
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, Live(stores.registry, (EMBEDDER,)), tenant)
    try:
        events, build = await history(stores, tenant, pinned, dataset)
    except Refused as e:
        return Report(name, None, why=str(e))
    tell(f"{len(events.events):,} behaviours of {len(events.visitors):,} visitors on {pinned.n:,} items")
    if not len(events.events):
        return Report(name, None, why="there are no behaviours yet")
    variant, metrics = await asyncio.to_thread(_judged, name, events, pinned, tell)
    live = await stores.registry.live(tenant, name)
    if live and (why := gate.worse(metrics, live.metrics, f"recall@{K}")):
        return Report(name, None, metrics, why)
    run = await asyncio.to_thread(similarity.begin, stores.blobs, tenant, name, variant, events)
    if run and live and live.about.get("run") == run.folder:
        await asyncio.to_thread(run.remove)
        return Report(name, live.id, live.metrics, "it was made of this input already")
    shards = len(await asyncio.to_thread(similarity.parts_of, run, sharing)) if run else 1
    metrics = {**metrics, "items": float(pinned.n), "shards": float(shards)}
    about = _about(variant, events, build, run.folder if run else "") | origin
    model = await asyncio.to_thread(_fitted, run, _Asked(name, variant, events, pinned), tell, sharing)
    report = Report(name, None, metrics, "no two items have a visitor in common")
    if not model.empty():
        arrays = await asyncio.to_thread(lambda: model.prepared().arrays())
        report = await gate.release(stores, tenant, Made(name, arrays, metrics, about, pinned.n))
    if run:
        await asyncio.to_thread(run.remove)
    return report


async def remade(stores: Stores, tenant: str, live: Version, on: Ground, tell: Tell) -> Made:
    """The channel of the live version on these rows: its variant, of what it learns from, as of today. Raises Refused
    when that is worse than it was."""
    name, variant, dataset = live.name, live.about["variant"], live.about.get("dataset", "").partition("/")[0]
    events, build = await history(stores, tenant, on.pinned, dataset or None)
    if not len(events.events):
        raise Refused("there are no behaviours any more")
    later = await asyncio.to_thread(splits.last, events, on.pinned)
    metrics = await asyncio.to_thread(measure, name, variant, later) if later else {}
    tell(f"{name}, {variant}, on what was taken later: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    if why := gate.worse(metrics, live.metrics, f"recall@{K}"):
        raise Refused(why, metrics)
    model = await asyncio.to_thread(_fitted, None, _Asked(name, variant, events, on.pinned), tell, ALONE)
    if model.empty():
        raise Refused("no two items have a visitor in common any more", metrics)
    arrays = await asyncio.to_thread(lambda: model.prepared().arrays())
    return Made(name, arrays, metrics, {**_about(variant, events, build), **on.origin}, on.pinned.n)


def _about(variant: str, events: History, build: str, run: str = "") -> dict[str, Any]:
    until = int(events.events.at[-1])
    return {"variant": variant, "behaviours": len(events.events), "until": until, "run": run, "dataset": build}


def _judged(name: str, events: History, pinned: Pinned, tell: Tell) -> tuple[str, dict[str, float]]:
    """The variant that the split before the last one prefers, and its figures on the last one; {} without a split."""
    later = splits.last(events, pinned)
    variant = choose(name, later.before if later else events, pinned, tell)
    metrics = measure(name, variant, later) if later else {}
    tell(f"{variant}, on what was taken later: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    return variant, metrics


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    variant: str
    events: History
    pinned: Pinned


def _fitted(run: Run | None, asked: _Asked, tell: Tell, sharing: Sharing) -> Recaller:
    """On the whole history, in parts where `run` is."""
    if run is not None:
        return similarity.made(run, asked.name, asked.variant, tell, sharing)
    e = asked.events.events
    return KINDS[asked.name].fit(asked.variant, e, int(e.at[-1]) + 1, asked.pinned)


async def named(stores: Stores, tenant: str, channels: Sequence[str]) -> list[str]:
    """Those of `channels` that a scenario of the tenant names: only they are worth a fit."""
    wanted = {c for s in await Scenarios(stores.documents, stores.clock).list(tenant) for c in s.channels}
    return [c for c in channels if c in wanted]


def choose(name: str, events: History, pinned: Pinned, tell: Tell) -> str:
    """The variant with the most recall on the last slice of `events`, which is not the one that judges it; the usual
    one where nothing can be compared."""
    usual, *others = KINDS[name].variants(len(np.unique(events.events.rows[events.events.weights > 0])))
    later = splits.last(events, pinned) if others else None
    if later is None:
        return usual
    figures = {variant: measure(name, variant, later)[f"recall@{K}"] for variant in (usual, *others)}
    tell(f"recall@{K} on the slice before: " + ", ".join(f"{v} {r:.4f}" for v, r in figures.items()))
    return max(figures, key=lambda v: figures[v])


def measure(name: str, variant: str, later: Split) -> dict[str, float]:
    """Recall and others at 20 on what was new to each visitor in a slice, of a fit on what came before it."""
    moment = later.state.moment
    return figures_of(KINDS[name].fit(variant, later.learned, moment.now, moment.pinned), later.state)


def figures_of(model: Recaller, state: Past) -> dict[str, float]:
    """Of its lists for at most MOST_JUDGED visitors, each against what was new to the visitor after `state`."""
    users = list(state.wanted)[:: max(1, -(-len(state.wanted) // MOST_JUDGED))]
    lists: Mapping[str, list[str]] = {str(u): _list(model, u, state) for u in users}
    return evaluate({str(u): {str(r) for r in state.wanted[u]} for u in users}, lists, K)


def _list(model: Recaller, user: int, state: Past) -> list[str]:
    allowed = state.known.copy()
    allowed[state.visitors[user].seen] = False
    return [str(r) for r in model.recommend(state.visitors[user], K, allowed, state.moment.pinned).rows]
