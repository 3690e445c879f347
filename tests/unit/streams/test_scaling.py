"""How many replicas the backlog asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray_app.streams.scaling import ByLag


def asked(lags: list[int], now: int, by_hand: int = 0, low: int = 1, high: int = 8) -> int:
    metrics: dict[str, Any] = {
        "lag": {k: [SimpleNamespace(value=9e9), SimpleNamespace(value=lag)] for k, lag in enumerate(lags)},
        "wanted": {k: [SimpleNamespace(value=by_hand)] for k in range(len(lags))},
    }
    context = SimpleNamespace(
        raw_metrics=metrics if lags else {}, current_num_replicas=now, target_num_replicas=now,
        capacity_adjusted_min_replicas=low, capacity_adjusted_max_replicas=high,
    )  # fmt: skip
    return ByLag(lag_per_replica=1000)(context)[0]


@pytest.mark.parametrize(("lags", "now", "wanted"), [
    ([0], 1, 1), ([999], 1, 1), ([1001], 1, 2), ([3000, 2500], 2, 6), ([900_000], 1, 8),
    ([0, 0, 0, 0], 4, 3), ([], 3, 3),
])  # fmt: skip
def test_it_grows_at_once_and_shrinks_one_by_one(lags: list[int], now: int, wanted: int) -> None:
    assert asked(lags, now) == wanted


@pytest.mark.parametrize(("by_hand", "wanted"), [(5, 5), (20, 8), (1, 2)])
def test_an_operators_number_wins_within_the_bounds(by_hand: int, wanted: int) -> None:
    assert asked([999_999], 2, by_hand, low=2) == wanted
