"""Item-to-item neighbours of every kind: what the same visitors took, and what was taken in one session."""

from __future__ import annotations

from ray_app.models.covisit import Covisit
from ray_app.registry.watch import ITEM_CF
from ray_app.training.recallers import learn
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores

CHANNELS = (ITEM_CF, Covisit.name)


async def similarity(stores: Stores, tenant: str, tell: Tell, channel: str = ITEM_CF) -> Report:
    """`channel`: one of CHANNELS."""
    return await learn(stores, tenant, channel, tell)
