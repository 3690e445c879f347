"""Who asks: the profile of one round trip, as rows of the pinned shelf."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
from redis.exceptions import RedisError

from ray_app.catalog.pinned import Pinned
from ray_app.features import profile
from ray_app.features.profile import Profile, Recent
from ray_app.recommend.ask import Ask
from ray_app.recommend.budget import Budget
from ray_app.types import Degraded, Visitor

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST_SHARE = 0.5  # of the budget may go into this round trip
CONTEXT_WEIGHT = 5  # the item looked at counts like a purchase of this moment


async def read_profile(redis: Redis, prefix: str, tenant: str, ask: Ask, budget: Budget) -> Profile:
    """An unknown visitor has an empty profile, and so has everybody while Redis is away: `degraded` says so."""
    if not ask.visitor:
        return Profile()
    try:
        async with asyncio.timeout(budget.left_s() * MOST_SHARE):
            return await profile.read(redis, prefix, tenant, ask.visitor)
    except (TimeoutError, RedisError, OSError) as e:
        budget.degraded.append(Degraded("profile", f"history cannot be read: {type(e).__name__}"))
        return Profile()


def as_visitor(ask: Ask, known: Profile, pinned: Pinned, now: int, from_context: bool = False) -> Visitor:
    """`from_context`: what is near the item looked at is wanted, so that the history does not count."""
    context = None if ask.context_item_id is None else pinned.row_of(ask.context_item_id)
    recent = list(known.recent)
    if context is not None and ask.context_item_id:
        looked_at = Recent(ask.context_item_id, now, CONTEXT_WEIGHT, 0)
        others = () if from_context else (r for r in recent if r.item_id != ask.context_item_id)
        recent = [looked_at, *others]
    kept = [(row, r) for r in recent if (row := pinned.row_of(r.item_id)) is not None]
    return Visitor(
        ask.visitor,
        np.array([row for row, _ in kept], np.int32),
        np.array([r.weight for _, r in kept], np.float32),
        np.array([max(0, now - r.at) / 1000.0 for _, r in kept], np.float32),
        np.array([r.purchases for _, r in kept], np.float32),
        pinned.rows_of(list(known.seen)),
        context,
    )
