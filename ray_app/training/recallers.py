"""Channels that learn: variants compared on one slice of time, the best judged on the next, the gate, and then the
fit on all that goes live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import Scenarios
from ray_app.errors import InvalidField
from ray_app.models.base import Recaller
from ray_app.models.evaluate import evaluate
from ray_app.registry.watch import Live
from ray_app.training import slices
from ray_app.training.dataset import Past
from ray_app.training.history import History
from ray_app.training.kinds import KINDS
from ray_app.training.report import Report, Tell
from ray_app.training.slices import Slice
from ray_app.training.stores import Stores, catalogue, history, origin_of

K = 20
MOST_JUDGED = 4000  # visitors of a slice, evenly
WORST = 0.7  # of the live version's own figure: a good one is not replaced by noise, a broken one never goes live


async def learn(stores: Stores, tenant: str, name: str, tell: Tell) -> Report:
    """Fit the channel `name` and promote it, or say why not. Raises InvalidField for one that does not learn."""
    if name not in KINDS:
        raise InvalidField("channel", name, ", ".join(KINDS))
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, Live(stores.registry), tenant)
    events = await history(stores, tenant, pinned)
    tell(f"{len(events.events):,} behaviours of {len(events.visitors):,} visitors on {pinned.n:,} items")
    if not len(events.events):
        return Report(name, None, why="there are no behaviours yet")
    later = slices.last(events, pinned)
    variant = choose(name, later.before if later else events, pinned, tell)
    metrics = measure(name, variant, later) if later else {}
    tell(f"{variant}, on what was taken later: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    live = await stores.registry.live(tenant, name)
    best = live.metrics.get(f"recall@{K}", 0.0) if live else 0.0
    if metrics and metrics[f"recall@{K}"] < WORST * best:
        return Report(name, None, metrics, f"recall@{K} is below {WORST:.0%} of the live version's {best:.4f}")
    until = int(events.events.at[-1])
    model = KINDS[name].fit(variant, events.events, until + 1, pinned)
    if model.empty():
        return Report(name, None, metrics, "no two items have a visitor in common")
    about = {"variant": variant, "behaviours": len(events.events), "until": until, **origin}
    arrays = await asyncio.to_thread(lambda: model.prepared().arrays())
    version = await stores.registry.register(tenant, name, arrays, metrics, about, pinned.n)
    await stores.registry.promote(tenant, version)
    return Report(name, version.id, metrics)


async def named(stores: Stores, tenant: str, channels: Sequence[str]) -> list[str]:
    """Those of `channels` that a scenario of the tenant names: only they are worth a fit."""
    wanted = {c for s in await Scenarios(stores.documents, stores.clock).list(tenant) for c in s.channels}
    return [c for c in channels if c in wanted]


def choose(name: str, events: History, pinned: Pinned, tell: Tell) -> str:
    """The variant with the most recall on the last slice of `events`, which is not the one that judges it; the usual
    one where nothing can be compared."""
    usual, *others = KINDS[name].variants(len(np.unique(events.events.rows[events.events.weights > 0])))
    later = slices.last(events, pinned) if others else None
    if later is None:
        return usual
    figures = {variant: measure(name, variant, later)[f"recall@{K}"] for variant in (usual, *others)}
    tell(f"recall@{K} on the slice before: " + ", ".join(f"{v} {r:.4f}" for v, r in figures.items()))
    return max(figures, key=lambda v: figures[v])


def measure(name: str, variant: str, later: Slice) -> dict[str, float]:
    """Recall and others at 20 on what was new to each visitor in a slice, of a fit on what came before it."""
    moment = later.state.moment
    return judge(KINDS[name].fit(variant, later.learned, moment.now, moment.pinned), later.state)


def judge(model: Recaller, state: Past) -> dict[str, float]:
    users = list(state.wanted)[:: max(1, -(-len(state.wanted) // MOST_JUDGED))]
    lists: Mapping[str, list[str]] = {str(u): _list(model, u, state) for u in users}
    return evaluate({str(u): {str(r) for r in state.wanted[u]} for u in users}, lists, K)


def _list(model: Recaller, user: int, state: Past) -> list[str]:
    allowed = state.known.copy()
    allowed[state.visitors[user].seen] = False
    return [str(r) for r in model.recommend(state.visitors[user], K, allowed, state.moment.pinned).rows]
