"""How many replicas the pool of flows is to have: as an operator wants, else as the backlog asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WANTED, LAG = "wanted", "lag"  # what each replica reports


class ByLag:
    """A Serve autoscaling policy. `lag_per_replica`: entries behind that one replica may have; the number is kept
    within the bounds of the deployment's autoscaling_config. It grows at once and shrinks one by one."""

    def __init__(self, lag_per_replica: int = 50_000) -> None:
        self._most = lag_per_replica

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        wanted, lags = _newest(ctx.raw_metrics, WANTED), _newest(ctx.raw_metrics, LAG)
        low, high = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        by_hand = int(max(wanted, default=0))
        if by_hand:
            return min(high, max(low, by_hand)), {}
        if not lags:
            return ctx.target_num_replicas, {}
        asked = math.ceil(sum(lags) / self._most)
        return min(high, max(low, asked, ctx.current_num_replicas - 1)), {}


def _newest(reported: Mapping[str, Mapping[Any, Sequence[Any]]] | None, name: str) -> list[float]:
    """The last value of each replica. Serve's own aggregate is a mean of the last half minute: three replicas that are
    wanted now would be two and a half."""
    return [series[-1].value for series in (reported or {}).get(name, {}).values() if series]
