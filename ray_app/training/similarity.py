"""Item-to-item neighbours: fit on what came before, evaluate on what came after, then fit on all and promote."""

from __future__ import annotations

from ray_app.catalog.pinned import Pinned
from ray_app.models.evaluate import evaluate
from ray_app.models.itemcf import ItemCF
from ray_app.registry.watch import ITEM_CF, Live
from ray_app.training.dataset import past
from ray_app.training.history import History
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores, catalogue, history, origin_of

K = 20
LATER_S = 14 * 86400  # the slice at the end that evaluates
WORST = 0.7  # of the live version's own figure: a good one is not replaced by noise, a broken one never goes live


async def similarity(stores: Stores, tenant: str, tell: Tell) -> Report:
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, Live(stores.registry, ()), tenant)
    events = await history(stores, tenant, pinned)
    tell(f"{len(events.events):,} behaviours of {len(events.visitors):,} visitors on {pinned.n:,} items")
    if not len(events.events):
        return Report(ITEM_CF, None, why="there are no behaviours yet")
    metrics = measure(events, pinned)
    tell(f"on the last {LATER_S // 86400} days: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    live = await stores.registry.live(tenant, ITEM_CF)
    best = live.metrics.get(f"recall@{K}", 0.0) if live else 0.0
    if metrics and metrics[f"recall@{K}"] < WORST * best:
        return Report(ITEM_CF, None, metrics, f"recall@{K} is below {WORST:.0%} of the live version's {best:.4f}")
    model = ItemCF.fit(events.events, int(events.events.at[-1]) + 1)
    if not any(v.any() for k, v in model.arrays().items() if k == "weights"):
        return Report(ITEM_CF, None, metrics, "no two items have a visitor in common")
    about = {"behaviours": len(events.events), "until": int(events.events.at[-1]), **origin}
    version = await stores.registry.register(tenant, ITEM_CF, model.arrays(), metrics, about, pinned.n)
    await stores.registry.promote(tenant, version)
    return Report(ITEM_CF, version.id, metrics)


def measure(events: History, pinned: Pinned) -> dict[str, float]:
    """Recall and others at 20 on new items of the last days; {} when nothing came before or after the cut."""
    last = int(events.events.at[-1])
    state = past(events, pinned, last - LATER_S * 1000, last + 1)
    model = state.models.recallers.get(ITEM_CF)
    if model is None or not state.wanted:
        return {}
    lists = {}
    for user in state.wanted:
        allowed = state.known.copy()
        allowed[state.visitors[user].seen] = False
        lists[str(user)] = [str(r) for r in model.recommend(state.visitors[user], K, allowed).rows]
    return evaluate({str(u): {str(r) for r in rows} for u, rows in state.wanted.items()}, lists, K)
