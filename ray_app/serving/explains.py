"""Use cases that say how an answer came to be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.recommend import Decision
from ray_app.recommend import ask as asks
from ray_app.recommend import explain as explaining
from ray_app.recommend.trace import trace_of
from ray_app.serving.app import App

Ask = Mapping[str, Any]
Answer = dict[str, Any]
ANSWERED = ("request_id", "scenario", "visitor", "answered_at", "arms", "versions", "degraded", "items")


async def get_trace(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("request_id",))
    return await app.traces.get(tenant, parse_id("request_id", raw.get("request_id")))


async def explain(app: App, tenant: str, raw: Ask) -> Answer:
    """The answer is made anew and shown to nobody: neither its slate nor its trace is kept."""
    asked = {k: v for k, v in raw.items() if k != "item_id"}
    item_id, ask = parse_id("item_id", raw.get("item_id")), asks.parse(asked)
    decision = await app.recommender.decide(tenant, ask)
    return await asyncio.to_thread(explaining.explain, decision, ask, item_id)


async def debug(decision: Decision) -> Answer:
    """The trace without what the answer has anyway."""
    whole = await asyncio.to_thread(trace_of, decision)
    return {k: v for k, v in whole.items() if k not in ANSWERED}
