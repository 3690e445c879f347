"""Splits that judge: the last days, or the newest of each visitor where hardly anybody comes back; what they choose."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.catalog.pinned import Pinned
from ray_app.errors import InvalidField
from ray_app.training import splits
from ray_app.training.history import History
from ray_app.training.kinds import KINDS
from ray_app.training.recallers import choose, learn, measure
from ray_app.types import Interactions
from tests.unit.make import DAY_MS, NOW, item, shelf

ITEMS, USERS, EACH = 40, 120, 12


@pytest.fixture(scope="module")
def pinned() -> Pinned:
    return shelf([item(f"i{k}", published_at=NOW - 90 * DAY_MS) for k in range(ITEMS)]).pin()


def history(days: int, once: bool = False) -> History:
    """Each visitor takes items of one half of the catalogue over `days`, or all of them at one moment of his."""
    drawn = np.random.default_rng(4)
    users = np.repeat(np.arange(USERS), EACH).astype(np.int32)
    rows = (2 * drawn.integers(0, ITEMS // 2, len(users)) + users % 2).astype(np.int32)
    at = NOW - drawn.integers(0, days * DAY_MS, len(users))
    if once:
        at = NOW - np.repeat(drawn.integers(0, days * DAY_MS, USERS), EACH) + np.tile(np.arange(EACH), USERS)
    order = np.argsort(at, kind="stable")
    events = Interactions(users[order], rows[order], at[order], np.full(len(users), 5, np.float32), USERS, ITEMS)
    return History(tuple(f"u:{k}" for k in range(USERS)), events, np.zeros(len(users), np.float32))


def test_the_last_days_judge_where_visitors_come_back(pinned: Pinned) -> None:
    events = history(60)
    found = splits.last(events, pinned)
    assert found is not None
    cut = int(events.events.at[-1]) - splits.LATER_S * 1000
    assert found.state.moment.now == cut
    assert found.learned.at.max() < cut
    assert len(found.state.wanted) >= splits.LEAST_VISITORS


def test_the_newest_of_each_visitor_judge_where_hardly_anybody_comes_back(pinned: Pinned) -> None:
    events = history(300, once=True)
    found = splits.last(events, pinned)
    assert found is not None
    assert len(found.learned) == USERS * 10  # four fifths of twelve, rounded up
    for user, wanted in found.state.wanted.items():
        visitor = found.state.visitors[user]
        assert not wanted & set(visitor.seen.tolist())
        assert visitor.ages_s.max() < 1.0  # as of his own moment, not of the end of the history
    mine = events.events.users == 0
    late = events.events.rows[mine][10:]
    assert found.state.wanted.get(0, set()) <= set(late.tolist())


@pytest.mark.parametrize("events", [0, 1])
def test_hardly_any_history_judges_nothing(pinned: Pinned, events: int) -> None:
    few = history(60)
    assert splits.last(few.part(slice(0, events)), pinned) is None


@pytest.mark.parametrize("name", [n for n in KINDS if n != "two_tower"])
def test_every_channel_that_learns_is_measured_better_than_chance(pinned: Pinned, name: str) -> None:
    later = splits.last(history(300, once=True) if name == "covisit" else history(60), pinned)
    assert later is not None
    usual = KINDS[name].variants(ITEMS)[0]
    assert measure(name, usual, later)["recall@20"] > 0.7  # half of the catalogue is the other half's


def test_the_variant_that_found_most_is_chosen_and_told(pinned: Pinned) -> None:
    told: list[str] = []
    chosen = choose("factors", history(60), pinned, told.append)
    figures = dict(pair.rsplit(" ", 1) for pair in told[0].split(": ", 1)[1].split(", "))
    assert set(figures) == set(KINDS["factors"].variants(ITEMS))
    assert float(figures[chosen]) == max(map(float, figures.values()))


def test_where_nothing_can_be_compared_the_usual_variant_is_taken(pinned: Pinned) -> None:
    few = history(60).part(slice(0, 1))
    assert choose("item_cf", few, pinned, print) == KINDS["item_cf"].variants(1)[0]


def test_ease_is_for_catalogues_of_which_a_square_can_be_held() -> None:
    small, large = KINDS["item_cf"].variants(100), KINDS["item_cf"].variants(100_000)
    assert {v.split()[0] for v in small} - {v.split()[0] for v in large} == {"ease"}


async def test_a_channel_that_does_not_learn_is_refused_by_name() -> None:
    with pytest.raises(InvalidField, match="'hot'; allowed: item_cf, covisit, factors, two_tower"):
        await learn(None, "t", "hot", print)  # type: ignore[arg-type]
