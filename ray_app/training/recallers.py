"""Channels that learn: variants compared on one slice of time, the best judged on the next, the gate, and then the
fit on all that goes live."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.models.base import Recaller
from ray_app.models.evaluate import evaluate
from ray_app.registry.watch import Live
from ray_app.training.dataset import Past, state_at
from ray_app.training.history import History
from ray_app.training.kinds import KINDS
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores, catalogue, history, origin_of

K = 20
LATER_S = 14 * 86400  # the slice at the end that evaluates; the one before it chooses
MOST_JUDGED = 4000  # visitors of a slice, evenly
WORST = 0.7  # of the live version's own figure: a good one is not replaced by noise, a broken one never goes live


async def learn(stores: Stores, tenant: str, name: str, tell: Tell) -> Report:
    """Fit the channel `name` of KINDS and promote it, or say why not."""
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, Live(stores.registry), tenant)
    events = await history(stores, tenant, pinned)
    tell(f"{len(events.events):,} behaviours of {len(events.visitors):,} visitors on {pinned.n:,} items")
    if not len(events.events):
        return Report(name, None, why="there are no behaviours yet")
    variant = choose(name, events, pinned, tell)
    metrics = measure(name, variant, events, pinned)
    tell(f"{variant}, on the last {LATER_S // 86400} days: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    live = await stores.registry.live(tenant, name)
    best = live.metrics.get(f"recall@{K}", 0.0) if live else 0.0
    if metrics and metrics[f"recall@{K}"] < WORST * best:
        return Report(name, None, metrics, f"recall@{K} is below {WORST:.0%} of the live version's {best:.4f}")
    until = int(events.events.at[-1])
    model = KINDS[name].fit(variant, events.events, until + 1, pinned)
    if model.empty():
        return Report(name, None, metrics, "no two items have a visitor in common")
    about = {"variant": variant, "behaviours": len(events.events), "until": until, **origin}
    version = await stores.registry.register(tenant, name, model.arrays(), metrics, about, pinned.n)
    await stores.registry.promote(tenant, version)
    return Report(name, version.id, metrics)


def choose(name: str, events: History, pinned: Pinned, tell: Tell) -> str:
    """The variant with the most recall on the slice before the one that judges; the usual one where that is empty."""
    usual, *others = KINDS[name].variants(len(np.unique(events.events.rows)))
    if not others:
        return usual
    end = int(events.events.at[-1]) + 1 - LATER_S * 1000
    figures: dict[str, float] = {}
    for variant in (usual, *others):
        found = measure(name, variant, events.before(end), pinned)
        if not found:
            return usual
        figures[variant] = found[f"recall@{K}"]
    tell(f"recall@{K} on the {LATER_S // 86400} days before: " + ", ".join(f"{v} {r:.4f}" for v, r in figures.items()))
    return max(figures, key=lambda v: figures[v])


def measure(name: str, variant: str, events: History, pinned: Pinned) -> dict[str, float]:
    """Recall and others at 20 on new items of the last days; {} when nothing came before or after the cut."""
    if not len(events.events):
        return {}
    last = int(events.events.at[-1])
    cut = last - LATER_S * 1000
    before, state = events.before(cut).events, state_at(events, pinned, cut, last + 1)
    if not len(before) or not state.wanted:
        return {}
    return judge(KINDS[name].fit(variant, before, cut, pinned), state)


def judge(model: Recaller, state: Past) -> dict[str, float]:
    users = list(state.wanted)[:: max(1, -(-len(state.wanted) // MOST_JUDGED))]
    lists: Mapping[str, list[str]] = {str(u): _list(model, u, state) for u in users}
    return evaluate({str(u): {str(r) for r in state.wanted[u]} for u in users}, lists, K)


def _list(model: Recaller, user: int, state: Past) -> list[str]:
    allowed = state.known.copy()
    allowed[state.visitors[user].seen] = False
    return [str(r) for r in model.recommend(state.visitors[user], K, allowed, state.moment.pinned).rows]
