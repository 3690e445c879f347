"""The figures of the bench of returning customers, of visits whose answer is known."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.returning import ARMS, Asked, of_users, report, returning
from ray_app.types import DAY_MS

CUT = 100 * DAY_MS


def orders(*lines: tuple[str, str, int]) -> pd.DataFrame:
    """(user, item, day after the cut)."""
    found = pd.DataFrame([{"user": u, "item_id": i, "day": CUT + d * DAY_MS} for u, i, d in lines])
    return found.assign(occurred_at=found.day + 5)


def test_returning_is_who_had_a_history_and_comes_twice() -> None:
    found = returning(
        orders(("a", "x", -3), ("a", "y", 0), ("a", "z", 4), ("once", "x", -1), ("once", "x", 2), ("once", "y", 2),
               ("new", "x", 1), ("new", "y", 2)), CUT, 10,
    )  # fmt: skip
    assert found.names == {"a"}
    assert found.bought["a"] == {"x"}
    found.take("a", ["y", "x"])
    assert (found.visits["a"], found.since["a"], found.bought["a"]) == (1, ["y"], {"x", "y"})


def asked(user: str, wanted: str, *lists: str, number: int = 1) -> Asked:
    return Asked(user, number, set(wanted), dict(zip(ARMS, lists, strict=True)))


VISITS = [asked("b", "x", "x", "y", "y"), asked("b", "xy", "x", "y", "xy"), asked("a", "x", "x", "x", "x")]


def test_a_customer_counts_once_however_often_he_comes() -> None:
    assert of_users(VISITS, "live", "recall@20").tolist() == [1.0, 0.75]
    assert of_users(VISITS, "frozen", "recall@20").tolist() == [1.0, 0.25]


def test_the_ratio_is_of_the_means_over_customers(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = report(VISITS, "all")
    assert (found["visits"], found["users"]) == (3, 2)
    ratio, low, high = found["recall@20"]["live / frozen"]
    assert ratio == pytest.approx(0.875 / 0.625)
    assert 1.0 <= low < ratio < high
    assert "3 visits of 2 customers" in capsys.readouterr().out
