"""How many replicas a pool of slots is to have: as an operator wants, else as its queues ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WAITING, OLDEST_S, WANTED = "waiting", "oldest_s", "wanted"  # what each replica reports of its pool's queues


class ByBacklog:
    """A Serve autoscaling policy. `per_replica`: tasks that may wait for each replica. `oldest_s`: where the oldest one
    has waited for longer, one more is asked for. The number is kept within the bounds of the deployment's
    autoscaling_config. It grows at once and shrinks one by one."""

    def __init__(self, per_replica: int = 100, oldest_s: float = 60.0) -> None:
        self._most, self._oldest_s = per_replica, oldest_s

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        low, high = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        by_hand = int(max(newest(ctx.raw_metrics, WANTED), default=0))
        waiting, oldest = newest(ctx.raw_metrics, WAITING), newest(ctx.raw_metrics, OLDEST_S)
        if by_hand:
            return min(high, max(low, by_hand)), {}
        if not waiting:
            return ctx.target_num_replicas, {}
        asked = math.ceil(max(waiting) / self._most)  # each replica sees the same queues
        if max(oldest, default=0.0) > self._oldest_s:
            asked = max(asked, ctx.current_num_replicas + 1)
        return min(high, max(low, asked, ctx.current_num_replicas - 1)), {}


def newest(reported: Mapping[str, Mapping[Any, Sequence[Any]]] | None, name: str) -> list[float]:
    """The last value of each replica; Serve's own aggregate is a mean of the last half minute."""
    return [series[-1].value for series in (reported or {}).get(name, {}).values() if series]
