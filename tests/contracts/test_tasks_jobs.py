"""What becomes of a Ray Job that a task follows when its slot, its worker or the Jobs API is gone for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from ray_app.clock import SystemClock, new_id
from ray_app.tasks.pools import pools
from ray_app.tasks.seat import Seat
from ray_app.tasks.slot import Slot
from ray_app.tasks.task import State, Submission
from ray_app.tasks.work import Handler, Run
from ray_app.wiring.guard import trade
from tests.tasks_world import settings_of
from tests.unit.tasks.hands import Claimed, Hands


def now() -> int:
    return SystemClock().now()


def looks(hands: Hands, id: str) -> Claimed:
    """A slot has the task, whose job was begun by an earlier one, in its hands."""
    found = hands.claim()
    assert found is not None
    assert (found[0].id, found[0].attempt) == (id, 1)
    return found


@pytest.mark.parametrize("outcome", ["reaped", "RETRY", "FAILURE", "PENDING"])
async def test_a_slot_that_dies_while_it_looks_at_a_job_ends_no_attempt(hands: Hands, outcome: str) -> None:
    """Another attempt would begin a second job beside the first."""
    hands.lease_ms = 1
    [id] = hands.submit(Submission("noop"))
    hands.finish(looks(hands, id), "PARKED", following="job-1", due=now())
    lost = looks(hands, id)
    if outcome == "reaped":
        assert hands.reap() == [id]
    else:
        assert hands.finish(lost, outcome, due=now(), lost=True, dead=outcome == "FAILURE")
    task = hands.task(id)
    assert (task.state, task.attempt, task.following) == (State.STARTED, 1, "job-1")
    assert not hands.finish(lost, "SUCCESS", result="1")
    hands.redis.zadd(f"{hands.prefix}:delayed", {id: 1})  # as if it were due
    assert looks(hands, id)[0].following == "job-1"


async def test_one_whose_slots_die_whenever_they_look_at_its_job_is_tried_again_in_the_end(hands: Hands) -> None:
    [id] = hands.submit(Submission("noop"))
    hands.finish(looks(hands, id), "PARKED", following="job-1", due=now())
    for _ in range(5):
        hands.redis.zadd(f"{hands.prefix}:delayed", {id: 1})  # as if it were due
        hands.finish(looks(hands, id), "RETRY", error="killed", due=now() + 60_000, lost=True)
    task = hands.task(id)
    assert (task.state, task.following, task.error) == (State.RETRY, "", "killed")


async def test_what_a_slot_began_before_it_died_is_followed(hands: Hands) -> None:
    """The job is noted before it is submitted; it may say its progress before the slot let the task go."""
    [id] = hands.submit(Submission("noop"))
    lost = looks(hands, id)
    assert hands.call("tell", {"id": id, "token": lost[1], "following": "job-1"})
    assert hands.call("tell", {"id": id, "token": "job:job-1", "line": "I am here"})
    assert hands.finish(lost, "RETRY", due=now(), lost=True)
    assert (hands.task(id).state, hands.task(id).following) == (State.STARTED, "job-1")


class Nothing(BaseModel):
    pass


async def embeds(ask: Nothing, run: Run) -> str:
    return await run.job("embed")


def look(redis_url: str, data: Path) -> None:
    """By a slot, in a thread that is not the main one. It finds no Jobs API: no cluster was ever started on `data`."""
    settings = settings_of(redis_url, data)
    made = trade(settings, [Handler(embeds, Nothing, "noop")])
    made = type(made)(made.redis, made.prefix, made.settings, made.names, lambda: Opened(settings))
    slot = Slot(new_id(), next(iter(pools(settings.tasks).values())), Seat(), made)
    slot.tell_known()
    finish, _ = slot.step(None)
    slot.step(finish, claims=False)
    slot.close()


class Opened(SimpleNamespace):
    def __init__(self, settings: Any) -> None:
        super().__init__(settings=settings)

    async def close(self) -> None: ...


@pytest.mark.parametrize("cancelled", [False, True])
async def test_while_the_jobs_api_is_away_the_job_goes_on_being_followed(
    hands: Hands, redis_url: str, tmp_path: Path, cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run still: another attempt would begin a second one, and a task that is REVOKED would leave it behind."""
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    [id] = hands.submit(Submission("noop"))
    hands.finish(looks(hands, id), "PARKED", following=f"{id}-1", due=now())
    hands.redis.zadd(f"{hands.prefix}:delayed", {id: 1})  # as if it were due
    if cancelled:
        await hands.queue.cancel(id)
    await asyncio.to_thread(look, redis_url, tmp_path)
    task = hands.task(id)
    assert (task.state, task.attempt, task.following) == (State.STARTED, 1, f"{id}-1")
    assert hands.redis.zscore(f"{hands.prefix}:delayed", id) > now()


async def test_a_job_that_hangs_is_stopped_after_its_limit(
    hands: Hands, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster's answers are given here: a job that always runs."""
    from ray_app import cluster

    stopped: list[str] = []
    monkeypatch.setattr(cluster, "job_client", lambda data: None)
    monkeypatch.setattr(cluster, "job_of", lambda client, id: cluster.JobEnd("RUNNING", False, False))
    monkeypatch.setattr(cluster, "stop_job", lambda client, id: stopped.append(id))
    [id] = hands.submit(Submission("noop"))
    await asyncio.to_thread(look, redis_url, tmp_path)
    assert (hands.task(id).state, hands.task(id).following, stopped) == (State.STARTED, f"{id}-1", [])
    hands.redis.hset(f"{hands.prefix}:task:{id}", "started_at", now() - 25 * 3600 * 1000)
    hands.redis.zadd(f"{hands.prefix}:delayed", {id: 1})  # as if it were due
    await asyncio.to_thread(look, redis_url, tmp_path)
    task = hands.task(id)
    assert (task.state, task.following, stopped) == (State.RETRY, "", [f"{id}-1"])
    assert "tasks.job_limit_s, 86400 s" in task.error
