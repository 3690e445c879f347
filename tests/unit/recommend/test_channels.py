"""The channels of this process that read tags, single texts, and the operator's list."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_app.catalog.scenario import HOME, Channel
from ray_app.clock import FixedClock
from ray_app.recommend.budget import Budget
from ray_app.recommend.channels import content, similar, tags
from ray_app.recommend.recall import recall
from tests.unit.make import change, item, moment, shelf, visitor


def everything(n: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(n, np.bool_)


def test_tags_that_the_visitor_met_add_up_and_a_rare_one_says_more() -> None:
    known = [("a", "b"), ("a",), ("b",), ("c",), (), ("b", "c"), ("b",)]
    state = moment(shelf([item(f"i{k}", tags=t) for k, t in enumerate(known)]).pin())
    found = tags(visitor([0]), 9, everything(7), state)
    assert found.rows.tolist() == [0, 1, 2, 5, 6]  # a is on two items, b on four; nothing is said for c or no tag
    assert not len(tags(visitor([4]), 9, everything(7), state).rows)
    assert not len(tags(visitor(), 9, everything(7), state).rows)


def test_tags_follow_an_item_that_changed() -> None:
    made = shelf([item("i0", tags=("a",)), item("i1", tags=("a",)), item("i2", tags=("b",))])
    before = made.pin()
    made.apply([change(1, item("i1", version=2, tags=("z",)))])
    assert 1 in tags(visitor([0]), 9, everything(3), moment(before)).rows
    assert 1 not in tags(visitor([0]), 9, everything(3), moment(made.pin())).rows


def test_two_tastes_are_each_met_by_themselves() -> None:
    """Row 4 lies halfway between the two recent items, rows 2 and 3 beside one of them each."""
    vectors = np.array([[1, 0], [0, 1], [0.98, 0.199], [0.199, 0.98], [0.707, 0.707]], np.float32)
    state = moment(shelf([item(f"i{k}") for k in range(5)], vectors).pin())
    found = similar(visitor([0, 1]), 3, everything(5), state)
    assert set(found.rows[:2].tolist()) == {2, 3}
    assert found.rows[2] == 4


def test_content_puts_what_is_close_to_one_taste_above_what_is_half_alike_to_all() -> None:
    """Of three tastes at right angles, row 3 is beside one; row 4 is nearer to their mean."""
    near_one, near_all = [0.98, 0, 0, 0.199], [0.55, 0.55, 0.55, 0.304]
    vectors = np.array([*np.eye(4)[:3], near_one, near_all], np.float32)
    state = moment(shelf([item(f"i{k}") for k in range(5)], vectors).pin())
    fresh = np.array([False, False, False, True, True])
    found = content(visitor([0, 1, 2]), 2, fresh, state)
    assert found.rows.tolist() == [3, 4]
    assert content(visitor([0, 1, 2]), 1, fresh, state).rows.tolist() == [3]
    assert found.scores == pytest.approx(np.sqrt(np.square(vectors[3:, :3]).sum(axis=1) / 3), abs=1e-2)


def test_the_operators_list_comes_from_the_scenario_in_its_order() -> None:
    state = moment(shelf([item(f"i{k}") for k in range(5)]).pin())
    scenario = replace(HOME, channels={"listed": Channel(1.0, 2)}, listed=("i3", "nobody", "i1", "i4"))
    allowed = everything(5)
    found = recall(visitor(), scenario, {}, allowed, state, Budget(FixedClock(), 1.0))
    assert found.rows.tolist() == [3, 1]
    allowed[3] = False
    assert recall(visitor(), scenario, {}, allowed, state, Budget(FixedClock(), 1.0)).rows.tolist() == [1, 4]
