"""The gate before a version may serve: whole, loadable as a replica loads it, and then live or beside what is live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ray_app.errors import OtherEpoch
from ray_app.registry import watch
from ray_app.registry.artifact import Parts
from ray_app.training.report import Report
from ray_app.training.stores import Stores

Policy = Literal["live", "shadow", "staged"]
WORST = 0.7  # of the live version's own figure: a good one is not replaced by noise, a broken one never goes live


@dataclass(frozen=True)
class Made:
    """What a job made: files, figures, and where it came from (dataset, parameters, row epoch, place in the feed)."""

    name: str
    parts: Parts
    metrics: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    covers: int = 0


def broken(made: Made) -> str:
    """Why nobody may load this; "" when nothing speaks against it."""
    sized = {name: part for name, part in made.parts.items() if not isinstance(part, bytes)}
    if not any(len(part) if isinstance(part, bytes) else part.size for part in made.parts.values()):
        return f"it is empty: {', '.join(made.parts) or 'no file'} holds nothing"
    for name, array in sized.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            return f"{int(np.isnan(array).sum()):,} of the {array.size:,} numbers of {name} are NaN"
    wrong = [name for name, value in made.metrics.items() if not np.isfinite(value)]
    return f"its figure {wrong[0]} is {made.metrics[wrong[0]]}" if wrong else ""


def worse(metrics: Mapping[str, float], before: Mapping[str, float], name: str) -> str:
    """Why these figures may not replace those of the live version, by the one called `name`; "" when they may."""
    found, best = metrics.get(name), before.get(name, 0.0)
    if found is None or found >= WORST * best:
        return ""
    return f"{name} is below {WORST:.0%} of the live version's {best:.4f}"


async def release(stores: Stores, tenant: str, made: Made, policy: Policy = "live") -> Report:
    """Register and, as the policy says, promote, shadow, or leave it staged. What is broken is refused with the
    reason: before it is stored where its numbers say so, else retired when it does not load as a replica loads it, or
    knows other rows than what is live."""
    if why := broken(made):
        return Report(made.name, None, made.metrics, why)
    registry = stores.registry
    version = await registry.register(tenant, made.name, made.parts, made.metrics, made.about, made.covers)
    if why := await watch.tried(registry, tenant, version):
        await registry.retire(tenant, version)
        return Report(made.name, None, made.metrics, f"it cannot be served: {why}")
    try:
        if policy == "live":
            await registry.promote(tenant, version)
        elif policy == "shadow":
            await registry.shadow(tenant, version)
    except OtherEpoch as e:  # a compaction has switched since the job began
        await registry.retire(tenant, version)
        return Report(made.name, None, made.metrics, e.message)
    return Report(made.name, version.id, made.metrics, status=policy)
