"""What a slot makes of a handler: tries, verdicts, results, fan-in, what a run says. It is a thread of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ray_app.tasks.task import State, Submission
from tests.crash.handlers import HANDLERS
from tests.tasks_world import TasksWorld, settings_of


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[TasksWorld]:
    made = TasksWorld(settings_of(redis_url, tmp_path), HANDLERS)
    yield made
    await made.close()


async def done(world: TasksWorld, name: str, argument: dict[str, Any] | None = None, **more: Any) -> Any:
    id = await world.submit(name, argument, **more)
    await world.work_off()
    return await world.queue.get(id)


async def test_a_result_is_what_the_handler_returned(world: TasksWorld) -> None:
    task = await done(world, "noop", {"value": {"a": [1, None, "ü"]}})
    assert (task.state, task.result, task.attempt, task.error) == (State.SUCCESS, {"a": [1, None, "ü"]}, 1, "")
    assert task.submitted_at <= task.started_at <= task.ended_at


async def test_a_failing_task_is_tried_again_and_succeeds(world: TasksWorld) -> None:
    task = await done(world, "nap", {"failures": 2, "value": 5})
    assert (task.state, task.result, task.attempt) == (State.SUCCESS, 5, 3)
    log = await world.queue.log(task.id)
    assert ["failure 1" in log[0], "failure 2" in log[1], len(log)] == [True, True, 2]


async def test_after_the_last_try_it_is_a_dead_letter_which_can_be_replayed(world: TasksWorld) -> None:
    task = await done(world, "nap", {"failures": 4})
    assert (task.state, task.attempt, task.error) == (State.FAILURE, 4, "ValueError: failure 4")
    assert [t.id for t in await world.queue.dead()] == [task.id]
    assert await world.queue.replay(task.id) == [task.id]
    assert await world.queue.dead() == []
    await world.work_off()
    again = await world.queue.get(task.id)
    assert (again.state, again.attempt) == (State.FAILURE, 4)


@pytest.mark.parametrize(
    ("value", "state", "attempts", "dead"),
    [("fail", State.FAILURE, 1, 1), ("drop", State.FAILURE, 1, 0), ("again", State.SUCCESS, 2, 0)],
)
async def test_a_handler_says_what_an_exception_means(
    world: TasksWorld, value: str, state: State, attempts: int, dead: int
) -> None:
    task = await done(world, "picky", {"value": value})
    assert (task.state, task.attempt, len(await world.queue.dead())) == (state, attempts, dead)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("unprintable", "Unprintable: it cannot be printed"), ("half", "ValueError: a half ?"),
        ("object", "Fail: its result is no JSON: "), ("large", "Fail: result has 2097154 bytes"),
    ],
)  # fmt: skip
async def test_what_json_or_redis_cannot_take_is_a_failure_and_ends_no_slot(
    world: TasksWorld, value: str, error: str
) -> None:
    task = await done(world, "odd", {"value": value})
    assert task.state is State.FAILURE
    assert task.error.startswith(error)
    assert (await done(world, "noop")).state is State.SUCCESS


async def test_a_set_is_a_list_and_nan_is_null(world: TasksWorld) -> None:
    assert (await done(world, "odd", {"value": "set"})).result == [1, 2]
    assert (await done(world, "odd", {"value": "nan"})).result is None


async def test_an_argument_that_the_handler_no_longer_takes_is_a_dead_letter_at_once(world: TasksWorld) -> None:
    id = await world.submit("nap")
    await world.redis.hset(f"lemo:tasks:task:{id}", "argument", '{"removed": 1}')  # as before a new version
    await world.work_off()
    task = await world.queue.get(id)
    assert (task.state, task.attempt) == (State.FAILURE, 1)
    assert "removed" in task.error


async def test_progress_and_log_are_kept(world: TasksWorld) -> None:
    task = await done(world, "talk")
    assert task.progress == {"done": 3, "total": 3, "note": "step 3"}
    assert await world.queue.log(task.id) == ["line 1", "line 2", "line 3"]


@pytest.mark.parametrize("n", [0, 1, 40])
async def test_a_fan_is_gathered_and_its_parent_holds_no_slot_meanwhile(world: TasksWorld, n: int) -> None:
    """There is one slot: a parent that kept it would wait for ever."""
    task = await done(world, "fan", {"value": n})
    assert (task.state, task.result, task.attempt) == (State.SUCCESS, list(range(n)), 1)
    children = await world.queue.get_many(f"{task.id}.{k + 1}" for k in range(n))
    assert {c.parent for c in children.values()} == ({task.id} if n else set())
    assert len(await world.effects(task.id)) == (2 if n else 1)


async def test_a_chain_waits_and_each_sees_that_the_one_before_has_ended(world: TasksWorld) -> None:
    ids = await world.queue.submit(
        *(Submission("nap", {"value": k}, id=f"c{k}", after=(f"c{k - 1}",) if k else ()) for k in range(20))
    )
    await world.work_off()
    tasks = [(await world.queue.get_many(ids))[i] for i in ids]
    assert all(a.ended_at <= b.started_at for a, b in pairwise(tasks))


async def test_a_handler_with_a_rate_starts_so_often_and_no_oftener(world: TasksWorld) -> None:
    ids = await world.queue.submit(*(Submission("slow_noop") for _ in range(15)))
    await world.work_off()
    started = sorted(t.started_at for t in (await world.queue.get_many(ids)).values())
    assert started[-1] - started[0] >= 14 * 50 - 20  # 20 a second


@pytest.mark.parametrize("value", ["exit", "interrupt"])
async def test_a_coroutine_that_ends_the_program_ends_its_attempt_alone(world: TasksWorld, value: str) -> None:
    """Out of a loop such an exception ends its thread, and the next coroutine of the slot would wait for its limit."""
    task = await done(world, "quits", {"value": value})
    assert (task.state, task.attempt) == (State.FAILURE, 4)
    assert (await done(world, "nap", {"value": 1})).result == 1
