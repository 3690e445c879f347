"""Long-term profiles: what each visitor has cared for over months, beside the recent items that the stream keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.features.profile import LONG_TERM as KIND
from ray_app.registry.watch import Live
from ray_app.stores.base import Document
from ray_app.training.history import History
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores, catalogue, history

HALF_LIFE_S = 120 * 86400.0
MOST_CATEGORIES, BATCH = 10, 1000


async def profiles(stores: Stores, tenant: str, tell: Tell) -> Report:
    """A document of kind `profiles` per visitor: categories (their shares of the interest, the largest first), price
    (mean of what was taken, None where no price is known), taken (behaviours counted), since and until (ms). Made
    again of the same history it is the same."""
    pinned = await catalogue(stores, Live(stores.registry, ()), tenant)
    events, _ = await history(stores, tenant, pinned)
    if not len(events.events):
        return Report(KIND, None, why="there are no behaviours yet")
    version, done = stores.clock.now(), 0
    found = await asyncio.to_thread(lambda: list(made(events, pinned)))
    for k in range(0, len(found), BATCH):
        batch = [Document(name, version, body) for name, body in found[k : k + BATCH]]
        await stores.documents.upsert(tenant, KIND, batch)
        done += len(batch)
        tell(f"{done:,} of {len(found):,} profiles")
    return Report(KIND, str(version), {"profiles": float(done)}, status="written")


def made(events: History, pinned: Pinned) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """By visitor's name; who only refused has none."""
    e = events.events
    last = int(e.at[-1])
    say = e.weights * np.exp2((e.at - last) / 1000.0 / HALF_LIFE_S)
    order = np.argsort(e.users, kind="stable")
    starts = np.searchsorted(e.users[order], np.arange(len(events.visitors) + 1))
    for user, name in enumerate(events.visitors):
        mine = order[starts[user] : starts[user + 1]]
        mine = mine[say[mine] > 0]
        if len(mine):
            yield name, _of(e.rows[mine], say[mine], e.at[mine], pinned)


def _of(rows: Any, say: Any, at: Any, pinned: Pinned) -> Mapping[str, Any]:
    share = np.bincount(pinned.category[rows], say, minlength=len(pinned.categories)) / say.sum()
    best = [int(c) for c in np.argsort(-share, kind="stable")[:MOST_CATEGORIES] if share[c] > 0]
    prices = pinned.price[rows]
    known = np.isfinite(prices) & (prices > 0)
    return {
        "categories": {pinned.categories[c]: round(float(share[c]), 4) for c in best},
        "price": round(float(np.average(prices[known], weights=say[known])), 4) if known.any() else None,
        "taken": len(rows), "since": int(at.min()), "until": int(at.max()),
    }  # fmt: skip
