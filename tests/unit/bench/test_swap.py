"""The figures of the bench of swaps, of answers whose times are known."""

from __future__ import annotations

import numpy as np

from bench.swap import of_swap


def test_only_the_ten_seconds_around_and_the_minute_before_them_count() -> None:
    due = np.arange(0.0, 200.0, 0.01)
    ms = np.full(len(due), 1000.0)
    ms[(due >= 35) & (due < 95)] = 10.0
    ms[(due >= 95) & (due < 105)] = 15.0
    found = of_swap("ranker", 100.0, 0.5, due, ms)
    assert (found.before_ms, found.around_ms, found.ratio) == (10.0, 15.0, 1.5)
