"""Item-to-item neighbours: fit on what came before, evaluate on what came after, then on all, in parts, and promote."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.models.evaluate import evaluate
from ray_app.models.itemcf import Fit, likeness
from ray_app.models.product import Product, nearest, spans
from ray_app.registry.watch import ITEM_CF, Live
from ray_app.training import gate, shards
from ray_app.training.dataset import past
from ray_app.training.gate import Made
from ray_app.training.history import History
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.shards import Arrays, Run, Spread
from ray_app.training.stores import Stores, catalogue, history, origin_of

K = 20
LATER_S = 14 * 86400  # the slice at the end that evaluates
PART = 40_000_000  # multiplications of a part: a second or two of work
RUNS = "runs/similarity"


async def similarity(
    stores: Stores,
    tenant: str,
    tell: Tell,
    spread: Spread = shards.here,
    part: int = PART,
    dataset: str | None = None,
) -> Report:
    """Of the newest build of `dataset`, or of the live tables. `spread` says where parts are made. A run that was
    killed goes on where it was; one with the input of the live version changes nothing."""
    origin = await origin_of(stores, tenant)
    pinned = await catalogue(stores, Live(stores.registry, ()), tenant)
    try:
        events, build = await history(stores, tenant, pinned, dataset)
    except Refused as e:
        return Report(ITEM_CF, None, why=str(e))
    tell(f"{len(events.events):,} behaviours of {len(events.visitors):,} visitors on {pinned.n:,} items")
    if not len(events.events):
        return Report(ITEM_CF, None, why="there are no behaviours yet")
    live = await stores.registry.live(tenant, ITEM_CF)
    metrics = await asyncio.to_thread(measure, events, pinned)
    tell(f"on the last {LATER_S // 86400} days: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    if live and (why := gate.worse(metrics, live.metrics, f"recall@{K}")):
        return Report(ITEM_CF, None, metrics, why)
    run = await asyncio.to_thread(_begin, stores, tenant, events)
    if live is not None and live.about.get("run") == run.folder:
        await asyncio.to_thread(run.remove)
        return Report(ITEM_CF, live.id, live.metrics, "it was made of this input already")
    made = await asyncio.to_thread(_made, run, tell, spread, part)
    if not made["weights"].any():
        await asyncio.to_thread(run.remove)
        return Report(ITEM_CF, None, metrics, "no two items have a visitor in common")
    about = {"behaviours": len(events.events), "until": int(events.events.at[-1]), "run": run.folder, "dataset": build,
             "parameters": {"neighbours": made["weights"].shape[1]}, **origin}  # fmt: skip
    report = await gate.release(stores, tenant, Made(ITEM_CF, made, metrics, about, pinned.n))
    await asyncio.to_thread(run.remove)
    return report


def _begin(stores: Stores, tenant: str, events: History) -> Run:
    """The product of which the neighbours are made, as the input of a run."""
    e = events.events
    given = likeness(e, int(e.at[-1]) + 1).arrays()
    return Run.begin(stores.blobs, f"{tenant}/{RUNS}", {**given, "k": np.array([Fit().most(e.n_rows)], np.int64)})


def _made(run: Run, tell: Tell, spread: Spread, most: int) -> dict[str, Any]:
    """The arrays of the model; parts that are there and whole are not made again."""
    parts = run.parts(spans(Product.load(run.input()).cost(), most), make_part)
    missing = run.missing(parts)
    tell(f"{len(parts)} parts, {len(parts) - len(missing)} of them done before")
    for done, _ in enumerate(spread(shards.work, missing), len(parts) - len(missing) + 1):
        tell(f"part {done} of {len(parts)}")
    return run.collect(parts)


def make_part(given: Arrays, first: int, last: int) -> Arrays:
    neighbours, weights = nearest(Product.load(given), int(given["k"][0]), first, last)
    return {"neighbours": neighbours, "weights": weights}


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
