"""Hot sums: what a behaviour adds, and boards against a plain recount."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.config import Features
from ray_app.events.base import Logged, Topics
from ray_app.events.schema import behavior_entry
from ray_app.features import hot
from ray_app.features.boards import DAYS, Boards, windows
from ray_app.features.boards import board as made
from ray_app.flows.hot import Hot
from ray_app.flows.tally import Tally
from ray_app.streams.flow import Batch
from ray_app.streams.state import State
from ray_app.types import BEHAVIOR_TYPES, Behavior, Matrix
from tests.unit.make import DAY_MS, NOW, TENANT, behavior, board

if TYPE_CHECKING:
    from redis.asyncio import Redis

SETTINGS = Features()
BUCKET_MS = SETTINGS.hot_bucket_s * 1000
PLACE = ("topic", 0)


async def sums(redis: Redis) -> dict[str, dict[str, int]]:
    """By the rest of the key."""
    keys = [k async for k in redis.scan_iter("p:hot:*")]
    return {k.decode().removeprefix("p:hot:"): {i.decode(): int(n) for i, n in (await redis.hgetall(k)).items()}
            for k in keys}  # fmt: skip


async def test_a_behaviour_adds_its_weight_to_all_and_to_its_scenario(redis: Redis) -> None:
    bucket = NOW // BUCKET_MS
    await write(redis, [behavior("e1", "i", scenario="home"), behavior("e2", "i", type="click")])
    assert await sums(redis) == {f"t:-:{bucket}": {"i": 6}, f"t:home:{bucket}": {"i": 5}}


async def test_what_says_nothing_good_or_comes_too_late_adds_nothing(redis: Redis) -> None:
    kinds = sorted(set(BEHAVIOR_TYPES) - set(hot.WEIGHTS))
    late = behavior("e", "i", NOW - SETTINGS.hot_keep_s * 1000 - 1)
    await write(redis, [late, *(behavior(f"e{t}", "i", type=t, scenario="home") for t in kinds)])
    assert await sums(redis) == {}


async def test_the_weights_are_those_of_the_settings(redis: Redis) -> None:
    settings = Features(hot_weights={"impression": 2, "click": 0})
    events = [behavior(t, "i", type=t) for t in ("impression", "click", "purchase")]
    await write(redis, events, settings=settings)
    assert await sums(redis) == {f"t:-:{NOW // BUCKET_MS}": {"i": 2}}


@given(st.lists(st.tuples(st.sampled_from(["e1", "e2", "e3"]), st.integers(1, 5)), min_size=1, max_size=20))
def test_a_tally_adds_up_by_target(events: list[tuple[str, int]]) -> None:
    tally: Tally[str] = Tally()
    for k, (target, by) in enumerate(events):
        tally.add(target, by, behavior(f"{k}", "i"), NOW)
    (found,) = tally.sums(lambda target: (target, ["a", "b"]))
    assert found.keys == ["a", "b"]
    assert sorted(found.targets) == sorted((t, 0, 1) for t in {t for t, _ in events})
    assert [(found.targets[t][0], by) for t, by in zip(found.of, found.by, strict=True)] == events


ages = st.one_of(st.integers(0, 40 * DAY_MS), st.sampled_from([d * DAY_MS + k for d in DAYS for k in (-1, 0, 1)]))


@given(st.lists(st.tuples(st.integers(0, 9), ages, st.integers(1, 5)), max_size=100))
def test_windows_are_a_plain_recount(events: list[tuple[int, int, int]]) -> None:
    rows, age, weights = np.array(events, np.int64).reshape(-1, 3).T
    found = windows(rows.astype(np.int32), NOW - age, weights.astype(np.float32), NOW, 10)
    plain = np.zeros((len(DAYS), 10), np.float32)
    for row, a, w in events:
        for k, d in enumerate(DAYS):
            plain[k, row] += w * (a < d * DAY_MS)
    assert np.array_equal(found, plain)


def test_a_board_covers_a_shelf_that_grew_or_is_older() -> None:
    held = board([3, 1, 2])
    assert held.covering(3) is held
    assert held.covering(5).hot.tolist() == [*held.hot.tolist(), 0, 0]
    assert held.covering(2).windows.shape == (len(DAYS), 2)


def test_the_score_halves_with_each_half_life() -> None:
    rows, ages = np.array([0, 0, 1, 2], np.int32), np.array([0, 7, 14, -1]) * DAY_MS
    weights = np.array([1, 4, 8, 5], np.float32)
    found = made((rows, NOW - ages, weights), NOW, 4, 7 * 86400)
    assert found.hot.tolist() == [3, 2, 5, 0]  # what comes from the future is no more than new
    assert found.hottest.tolist() == [2, 0, 1]


async def write(redis: Redis, events: Sequence[Behavior], now: int = NOW, settings: Features = SETTINGS) -> None:
    """As the hot flow writes one batch."""
    state = State(redis, "p", "hot", 600)
    start = (await state.positions([PLACE]))[PLACE]
    logged = [Logged(*PLACE, start + k, now, "", behavior_entry(b).body) for k, b in enumerate(events)]
    ops = await Hot(Topics(("topic",)), "p", settings).flush(Batch(logged))
    end = start + len(logged)
    assert await state.advance(PLACE, (start, end), now, ops) == end


def recount(events: Sequence[Behavior], rows: dict[str, int], n: int, now: int) -> Matrix:
    sums = np.zeros((len(DAYS), n), np.float32)
    for b in events:
        age = now - b.occurred_at // BUCKET_MS * BUCKET_MS  # a bucket is as old as its beginning
        if b.item_id in rows and age <= SETTINGS.hot_keep_s * 1000:
            for k, d in enumerate(DAYS):
                sums[k, rows[b.item_id]] += hot.WEIGHTS.get(b.type, 0) * (age < d * DAY_MS)
    return sums


def some(n: int, seed: int, prefix: str = "e") -> list[Behavior]:
    drawn = np.random.default_rng(seed)
    return [
        behavior(f"{prefix}{k}", f"i{drawn.integers(12)}", NOW - int(drawn.integers(29 * DAY_MS)),
                 type=BEHAVIOR_TYPES[drawn.integers(len(BEHAVIOR_TYPES))], scenario="home" if k % 2 else None)
        for k in range(n)
    ]  # fmt: skip


@pytest.fixture
def boards(redis: Redis) -> Boards:
    return Boards(redis, lambda: "p", SETTINGS)


ROWS = {f"i{k}": k for k in range(10)}  # i10 and i11 have not come to the shelf yet


async def test_a_board_equals_a_recount_and_goes_on_equalling_it(redis: Redis, boards: Boards) -> None:
    events: list[Behavior] = []
    for turn in range(4):
        batch = some(80, seed=turn, prefix=f"{turn}-")
        events += batch
        await write(redis, batch)
        await boards.refresh(TENANT, ROWS, 10, NOW + turn)
        assert np.array_equal(boards.of(TENANT, 10).windows, recount(events, ROWS, 10, NOW + turn))


async def test_an_item_that_comes_to_the_shelf_later_has_its_sums(redis: Redis, boards: Boards) -> None:
    events = some(100, seed=1)
    await write(redis, events)
    await boards.refresh(TENANT, ROWS, 10, NOW)
    more = {**ROWS, "i11": 10, "i10": 11}
    await boards.refresh(TENANT, more, 12, NOW)
    assert np.array_equal(boards.of(TENANT, 12).windows, recount(events, more, 12, NOW))


async def test_sums_leave_a_window_when_they_grow_old_and_at_last_the_board(redis: Redis, boards: Boards) -> None:
    events = some(100, seed=2)
    await write(redis, events)
    for days in (0, 2, 6, 13, 29, 60):
        now = NOW + days * DAY_MS
        await boards.refresh(TENANT, ROWS, 10, now)
        assert np.array_equal(boards.of(TENANT, 10).windows, recount(events, ROWS, 10, now))
    assert not boards.of(TENANT, 10).windows.any()


async def test_a_feed_that_was_trimmed_means_that_every_bucket_is_read_again(redis: Redis, boards: Boards) -> None:
    first, second, third = some(50, 3, "a"), some(50, 4, "b"), some(50, 5, "c")
    await write(redis, first)
    await boards.refresh(TENANT, ROWS, 10, NOW)
    await write(redis, second)
    await write(redis, third)
    await redis.xtrim(hot.feed("p", TENANT), maxlen=1, approximate=False)
    await boards.refresh(TENANT, ROWS, 10, NOW)
    assert np.array_equal(boards.of(TENANT, 10).windows, recount(first + second + third, ROWS, 10, NOW))


async def test_only_the_buckets_that_changed_are_read_again(redis: Redis, boards: Boards) -> None:
    """What expires in the store stays on the board until it is too old for it."""
    old, young = behavior("e0", "i0", NOW - DAY_MS // 2), behavior("e1", "i1", NOW)
    await write(redis, [old])
    await boards.refresh(TENANT, ROWS, 10, NOW)
    await redis.delete(hot.key("p", TENANT, hot.ALL, old.occurred_at // BUCKET_MS))
    await write(redis, [young])
    await boards.refresh(TENANT, ROWS, 10, NOW)
    assert boards.of(TENANT, 10).windows[0, :2].tolist() == [5, 5]


async def test_tenants_and_their_boards_are_apart(redis: Redis, boards: Boards) -> None:
    await write(redis, [behavior("e", "i0")])
    await boards.refresh("t2", ROWS, 10, NOW)
    assert not boards.of("t2", 10).windows.any()
    assert not boards.of("never refreshed", 3).windows.any()
    assert boards.of("never refreshed", 3).windows.shape == (len(DAYS), 3)


async def test_while_shelves_move_each_epoch_has_a_board_of_its_own(redis: Redis, boards: Boards) -> None:
    await write(redis, [behavior("e0", "i0"), behavior("e1", "i9"), behavior("e2", "i9")])
    await boards.refresh(TENANT, ROWS, 10, NOW)
    assert not boards.of(TENANT, 2, "moved").windows.any()
    await boards.refresh(TENANT, {"i9": 0, "i0": 1}, 2, NOW, "moved")
    assert boards.of(TENANT, 2, "moved").windows[0].tolist() == [10, 5]
    assert boards.of(TENANT, 10).windows[0, [0, 9]].tolist() == [5, 10]
    await boards.refresh(TENANT, {"i9": 0}, 1, NOW, "again")
    assert boards.of(TENANT, 1, "again").windows[0].tolist() == [10]
    assert boards.of(TENANT, 2, "moved").windows[0].tolist() == [10, 5]
    assert not boards.of(TENANT, 10).windows.any()


async def test_two_boards_that_are_made_at_once_lose_no_sums(redis: Redis, boards: Boards) -> None:
    """Of a shelf, and of one that comes beside it: the second hears late where the feed ends."""
    await write(redis, [behavior("e0", "i0")])
    newest, asked, go = redis.xrevrange, list[str](), asyncio.Event()

    async def late(name: str, count: int) -> Any:
        found = await newest(name, count=count)
        asked.append(name)
        if len(asked) == 2:
            await go.wait()
        return found

    redis.xrevrange = late  # type: ignore[method-assign,assignment]
    first, second = (asyncio.create_task(boards.refresh(TENANT, ROWS, 10, NOW)) for _ in range(2))
    await first
    go.set()
    await second
    await write(redis, [behavior("e1", "i1", NOW - DAY_MS // 2)])
    await boards.refresh(TENANT, ROWS, 10, NOW)
    assert boards.of(TENANT, 10).windows[0, :2].tolist() == [5, 5]


async def test_what_could_not_be_read_is_read_the_next_time(redis: Redis, boards: Boards) -> None:
    """The state store goes away between the feed and the buckets."""
    await write(redis, [behavior("e0", "i0")])
    await boards.refresh(TENANT, ROWS, 10, NOW)
    await write(redis, [behavior("e1", "i1")])
    pipeline, redis.pipeline = redis.pipeline, _away  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="away"):
        await boards.refresh(TENANT, ROWS, 10, NOW)
    redis.pipeline = pipeline  # type: ignore[method-assign]
    await boards.refresh(TENANT, ROWS, 10, NOW)
    assert boards.of(TENANT, 10).windows[0, :2].tolist() == [5, 5]


def _away(transaction: bool) -> None:
    raise OSError("away")
