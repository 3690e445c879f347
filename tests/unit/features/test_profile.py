"""Profile: what a behaviour changes for its visitor, and what a request reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from ray_app.config import Features
from ray_app.features import profile
from ray_app.features.profile import Profile, Recent
from ray_app.types import Behavior
from tests.unit.make import NOW, TENANT, behavior

if TYPE_CHECKING:
    from redis.asyncio import Redis

SMALL = Features(recent_items=3, seen_items=5)


async def write(redis: Redis, events: Iterable[Behavior], settings: Features = SMALL) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for b in events:
            for command in profile.writes(b, "p"):
                pipe.execute_command(*command)
            for command in profile.trims("p", b.tenant, b.visitor, settings):
                pipe.execute_command(*command)
        await pipe.execute()


async def read(redis: Redis, visitor: str = "u:1", most: int = 100) -> Profile:
    return await profile.read(redis, "p", TENANT, visitor, most)


async def test_an_unknown_visitor_has_an_empty_profile(redis: Redis) -> None:
    assert await read(redis, "u:nobody") == Profile()


async def test_recent_items_are_newest_first_with_weight_and_purchases(redis: Redis) -> None:
    await write(redis, [
        behavior("1", "a", NOW - 30), behavior("2", "b", NOW - 20, type="click"), behavior("3", "a", NOW - 10),
    ])  # fmt: skip
    found = await read(redis)
    assert found.recent == (Recent("a", NOW - 10, 5, 2), Recent("b", NOW - 20, 1, 0))
    assert found.seen == {"a", "b"}


async def test_a_late_event_does_not_move_an_item_back(redis: Redis) -> None:
    await write(redis, [behavior("1", "a", NOW), behavior("2", "b", NOW - 5), behavior("3", "a", NOW - 10)])
    assert [(r.item_id, r.at) for r in (await read(redis)).recent] == [("a", NOW), ("b", NOW - 5)]


async def test_an_impression_changes_nothing(redis: Redis) -> None:
    await write(redis, [behavior("1", "a", type="impression")])
    assert await read(redis) == Profile()


@pytest.mark.parametrize("type", ["dislike", "hide"])
async def test_what_is_refused_is_seen_and_recent_no_longer(redis: Redis, type: str) -> None:
    await write(redis, [behavior("1", "a", NOW - 9, type="click"), behavior("2", "a", NOW, type=type)])
    found = await read(redis)
    assert (found.recent, found.seen) == ((), {"a"})


async def test_a_profile_keeps_the_newest_and_lives_for_its_time(redis: Redis) -> None:
    await write(redis, [behavior(f"{k}", f"i{k}", NOW + k) for k in range(10)])
    found = await read(redis)
    assert [r.item_id for r in found.recent] == ["i9", "i8", "i7"]
    assert found.seen == {f"i{k}" for k in range(5, 10)}
    for key in profile.keys("p", TENANT, "u:1"):
        assert 0 < await redis.ttl(key) <= SMALL.profile_keep_s


async def test_a_request_reads_no_more_than_it_asks_for(redis: Redis) -> None:
    await write(redis, [behavior(f"{k}", f"i{k}", NOW + k) for k in range(3)])
    assert [r.item_id for r in (await read(redis, most=2)).recent] == ["i2", "i1"]


async def test_users_sessions_and_tenants_are_apart(redis: Redis) -> None:
    await write(redis, [behavior("1", "a"), behavior("2", "b", user_id=None, session_id="1")])
    await write(redis, [behavior("3", "c", tenant="other")])
    assert [(await read(redis, v)).seen for v in ("u:1", "s:1", "s:2")] == [{"a"}, {"b"}, frozenset()]
