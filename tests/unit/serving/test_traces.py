"""Traces wait for nobody: at a bounded rate, in Redis for a while, let go when it is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ray_app.clock import FixedClock
from ray_app.config import Serving
from ray_app.errors import NotFound, Unavailable
from ray_app.recommend import Decision
from ray_app.serving import traces
from ray_app.serving.traces import Traces
from ray_app.stores.redis import connect
from ray_app.types import Slate
from tests.unit.make import NOW

if TYPE_CHECKING:
    from redis.asyncio import Redis


def decision(id: str, tenant: str = "t") -> Decision:
    return Decision(Slate(id, tenant, "home", "u:1", NOW, ()), {"profile": 1.5})


def kept(redis: Redis, clock: FixedClock, **settings: float) -> Traces:
    return Traces(redis, "p", clock, Serving(**settings))  # type: ignore[arg-type]


async def test_what_was_put_can_be_read_at_once_and_by_its_tenant_alone(redis: Redis, clock: FixedClock) -> None:
    found = kept(redis, clock)
    found.put(decision("r1"))
    trace = await found.get("t", "r1")
    assert (trace["request_id"], trace["stages_ms"]) == ("r1", {"profile": 1.5})
    with pytest.raises(NotFound, match=r"no trace of request 'r1' is kept.*serving\.traces_per_s"):
        await found.get("other", "r1")
    await found.close()


async def test_traces_end_by_themselves(redis: Redis, clock: FixedClock) -> None:
    found = kept(redis, clock, trace_keep_s=7)
    found.put(decision("r1"))
    await found.flush()
    assert 0 < await redis.ttl("p:trace:t:r1") <= 7
    await found.close()


async def test_no_more_than_the_rate_is_kept_and_the_others_are_counted(redis: Redis, clock: FixedClock) -> None:
    found = kept(redis, clock, traces_per_s=0.1)  # six at once
    for k in range(9):
        found.put(decision(f"r{k}"))
    clock.pass_s(10)
    found.put(decision("late"))
    await found.close()
    keys = [k.decode().rpartition(":")[2] async for k in redis.scan_iter("p:trace:*")]
    assert sorted(keys) == ["late", *(f"r{k}" for k in range(6))]
    assert found.skipped == 3


async def test_while_redis_is_away_traces_are_lost_and_a_reader_is_told(clock: FixedClock) -> None:
    away = connect("redis://127.0.0.1:9/0")
    found = kept(away, clock)
    found.put(decision("r1"))
    with pytest.raises(Unavailable):
        await found.get("t", "r1")
    assert found.skipped == 1
    await found.close()
    await away.aclose()


async def test_no_more_waits_than_fits(redis: Redis, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_WAITING", 2)
    found = kept(redis, clock)
    for k in range(5):
        found.put(decision(f"r{k}"))
    assert found.skipped == 3
    await found.close()
