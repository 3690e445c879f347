"""Limits end what they should and nothing else: real guards and slots, looked at by their pids."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from ray_app.tasks.task import State
from tests.crash.handlers import HANDLERS
from tests.tasks_world import TasksWorld, settings_of

pytestmark = pytest.mark.long
PREFIX = "lemo:tasks"


@pytest.fixture
async def make(redis_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., TasksWorld]]:
    made: list[TasksWorld] = []

    def one(**tasks: Any) -> TasksWorld:
        made.append(TasksWorld(settings_of(redis_url, tmp_path, **tasks), HANDLERS))
        made[-1].start_worker()
        return made[-1]

    yield one
    for world in made:
        await world.close()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def all_gone(world: TasksWorld, *pids: int) -> None:
    async def are() -> bool:
        return all(gone(p) for p in pids)

    await world.until(are)


async def begun(world: TasksWorld, id: str, n: int = 1) -> list[str]:
    """The first word of a task's effects, split."""

    async def has() -> bool:
        return len(await world.effects(id)) >= n

    await world.until(has)
    return (await world.effects(id))[n - 1].split()


async def test_the_hard_limit_ends_a_loop_in_c_and_its_grandchild_while_the_neighbour_goes_on(
    make: Callable[..., TasksWorld],
) -> None:
    world = make()
    neighbour = await world.submit("nap", {"seconds": 8.0, "value": "done"})
    await begun(world, neighbour)
    burning = await world.submit("burn")
    _, slot, child = await begun(world, burning)
    [task] = await world.ended(burning)
    assert task.state is State.FAILURE
    assert task.error.startswith("HardLimit: ")
    await all_gone(world, int(slot), int(child))
    [other] = await world.ended(neighbour)
    assert (other.state, other.result, other.attempt) == (State.SUCCESS, "done", 1)


async def test_the_hard_limit_ends_a_sleeping_thread_that_ignores_the_soft_one(make: Callable[..., TasksWorld]) -> None:
    world = make()
    id = await world.submit("stubborn")
    _, _, slot = await begun(world, id)
    [task] = await world.ended(id)
    assert (task.state, task.error[:9]) == (State.FAILURE, "HardLimit")
    assert "ignored" in await world.effects(id)
    await all_gone(world, int(slot))


async def test_a_failed_attempt_leaves_no_child_behind_for_the_next(make: Callable[..., TasksWorld]) -> None:
    world = make(slots=1)
    id = await world.submit("leave_child")
    await world.ended(id)
    _, slot, child = await begun(world, id)
    assert gone(int(child))  # before its end is told
    await all_gone(world, int(slot))
    [after] = await world.ended(await world.submit("noop"))
    assert after.state is State.SUCCESS


@pytest.mark.parametrize("name", ["doze", "drowse"])
async def test_the_soft_limit_lets_a_handler_clean_up(make: Callable[..., TasksWorld], name: str) -> None:
    world = make()
    id = await world.submit(name, {"seconds": 600.0})
    [task] = await world.ended(id)
    assert (task.state, task.result, task.attempt) == (State.SUCCESS, "cleaned", 1)
    assert (await world.effects(id))[-1] == "cleaned"


async def test_the_soft_limit_that_nobody_catches_is_a_failure_after_the_cleaning(
    make: Callable[..., TasksWorld],
) -> None:
    world = make()
    id = await world.submit("linger", {"seconds": 600.0})
    [task] = await world.ended(id)
    assert (task.state, task.error[:9]) == (State.FAILURE, "SoftLimit")
    assert await world.effects(id) == ["begin", "cleaned"]


async def test_the_soft_limit_ends_what_a_plain_handler_waits_for(make: Callable[..., TasksWorld]) -> None:
    world = make()
    id = await world.submit("wait_in_loop")
    [task] = await world.ended(id)
    assert task.result == "cleaned"
    assert (await begun(world, id)) == ["ended", "too"]


@pytest.mark.parametrize("name", ["linger_long", "sleep_plain"])
async def test_cancel_of_a_running_one_lets_it_clean_up_once(make: Callable[..., TasksWorld], name: str) -> None:
    world = make()
    id = await world.submit(name, {"seconds": 600.0})
    await begun(world, id)
    assert await world.queue.cancel(id) is State.STARTED
    [task] = await world.ended(id)
    assert (task.state, task.attempt) == (State.REVOKED, 1)
    if name == "linger_long":
        assert await world.effects(id) == ["begin", "cleaned"]
    slots = world.workers[0].told["slots"]
    assert slots
    assert not any(gone(p) for p in slots)  # no slot had to be killed for it
    [after] = await world.ended(await world.submit("noop"))
    assert after.state is State.SUCCESS


async def test_cancel_of_one_that_ignores_it_kills_it(make: Callable[..., TasksWorld]) -> None:
    world = make()
    id = await world.submit("burn_long")
    _, slot, child = await begun(world, id)
    await world.queue.cancel(id)
    [task] = await world.ended(id)
    assert (task.state, task.error) == (State.REVOKED, "cancelled")
    await all_gone(world, int(slot), int(child))


@pytest.mark.parametrize(("name", "error"), [("crash", "ended by signal 11"), ("leave", "ended by status 3")])
async def test_a_slot_that_dies_costs_a_try_and_is_replaced(
    make: Callable[..., TasksWorld], name: str, error: str
) -> None:
    world = make(slots=1)
    id = await world.submit(name)
    [task] = await world.ended(id)
    assert (task.state, task.attempt) == (State.FAILURE, 4)
    assert error in task.error
    assert [t.id for t in await world.queue.dead()] == [id]
    [after] = await world.ended(await world.submit("noop"))
    assert after.state is State.SUCCESS


async def with_grandchild(world: TasksWorld) -> tuple[str, int, list[int]]:
    """A task that runs, its guard, and the pids of all slots and of its own child."""
    id = await world.submit("burn_long")
    _, slot, child = await begun(world, id)
    worker = world.workers[0]

    async def told() -> bool:
        return int(slot) in worker.told.get("slots", ())

    await world.until(told)
    return id, worker.pid, [*worker.told["slots"], int(child)]


async def test_a_guard_that_is_killed_leaves_nothing_and_another_begins(make: Callable[..., TasksWorld]) -> None:
    world = make()
    id, guard, pids = await with_grandchild(world)
    os.kill(guard, signal.SIGKILL)
    await all_gone(world, guard, *pids)
    assert (await begun(world, id, 2))[0] == "burn"
    assert world.workers[0].pid != guard


async def test_a_guard_that_is_stopped_is_ended_with_its_slots_before_its_leases_are(
    make: Callable[..., TasksWorld],
) -> None:
    world = make(lease_s=8.0)
    id, guard, pids = await with_grandchild(world)
    os.kill(guard, signal.SIGSTOP)
    await all_gone(world, guard, *pids)
    task = await world.queue.get(id)
    assert (task.state, task.attempt) == (State.STARTED, 1)  # nobody else had it while a slot of that guard lived
    assert (await begun(world, id, 2))[0] == "burn"


async def test_the_slots_of_a_worker_that_is_gone_are_gone(make: Callable[..., TasksWorld]) -> None:
    """What a guard sees of a killed worker is that the pipe from it ends."""
    world = make()
    id, guard, pids = await with_grandchild(world)
    worker = world.workers[0]
    worker._ending.set()  # its watch dies with it
    assert worker._process is not None
    assert worker._process.stdin is not None
    worker._process.stdin.close()
    await all_gone(world, guard, *pids)
    task = await world.queue.get(id)
    assert (task.state, task.error) == (State.RETRY, "its worker is gone")  # told at once, not after the lease


async def test_a_worker_that_does_not_read_holds_no_guard_up(redis_url: str, tmp_path: Path) -> None:
    """The pipe to it is full; the lease of a task that runs is renewed all the same."""
    settings = settings_of(redis_url, tmp_path)
    world = TasksWorld(settings, HANDLERS)
    first = orjson.dumps({"settings": settings.model_dump_json(), "pool": "general"})
    line = [sys.executable, "-m", "tests.crash.handlers"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guard:  # noqa: ASYNC220
        assert guard.stdin is not None
        guard.stdin.write(first + b"\n")
        guard.stdin.flush()
        id = await world.submit("nap", {"seconds": 5.0})
        await begun(world, id)
        pipe = os.open(f"/proc/{guard.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while os.write(pipe, b" " * 512):
                pass
        os.close(pipe)
        [task] = await world.ended(id)
        guard.kill()
    assert (task.state, task.attempt) == (State.SUCCESS, 1)
    await world.close()


async def test_a_slot_is_replaced_after_so_many_tasks(make: Callable[..., TasksWorld]) -> None:
    world = make(slots=1, recycle_after=5)
    await world.ended(*[await world.submit("noop") for _ in range(4)])
    pids = set()
    for _ in range(3):
        ids = [await world.submit("nap") for _ in range(5)]
        await world.ended(*ids)
        for id in ids:
            pids.add((await world.effects(id))[0].split()[2])
    assert len(pids) >= 3
    assert {t.attempt for t in await world.queue.find({State.SUCCESS})} == {1}


async def test_a_guard_that_forks_for_long_has_one_thread_and_leaks_nothing(make: Callable[..., TasksWorld]) -> None:
    """A fork of a process with threads may hang; each slot that is replaced leaves no file, no zombie, no key."""
    world = make(recycle_after=1)
    await world.ended(*[await world.submit("noop") for _ in range(10)])
    guard = psutil.Process(world.workers[0].pid)
    before = guard.num_fds()
    n = 1000 if os.environ.get("SOAK") else 100
    await world.ended(*[await world.submit("noop") for _ in range(n)], timeout_s=n)
    assert guard.num_threads() == 1
    assert guard.num_fds() <= before
    assert len([c for c in guard.children() if c.status() == psutil.STATUS_ZOMBIE]) <= 2  # those of this moment
    known = [k async for k in world.redis.scan_iter("lemo:tasks:known:*")]
    assert len(known) == 1
    turns = [k async for k in world.redis.scan_iter("lemo:tasks:turn:*")]
    assert all([await world.redis.pttl(t) != -1 for t in turns])


async def test_a_drain_waits_for_what_runs_and_gives_back_the_rest(make: Callable[..., TasksWorld]) -> None:
    world = make()
    short = await world.submit("nap", {"seconds": 0.5})
    long = await world.submit("nap", {"seconds": 600.0})
    await begun(world, short)
    await begun(world, long)
    waiting = await world.submit("noop")
    await asyncio.to_thread(world.workers[0].drain, 3.0)
    found = await world.queue.get_many([short, long, waiting])
    assert found[short].state is State.SUCCESS
    assert (found[long].state, found[long].attempt) == (State.PENDING, 0)
    assert found[waiting].state is State.PENDING


async def test_operators_scale_restart_and_reroute_a_pool_while_it_runs(make: Callable[..., TasksWorld]) -> None:
    world = make()
    worker, pool = world.workers[0], f"{PREFIX}:pool:general"

    async def slots(n: int) -> None:
        async def are() -> bool:
            return len(worker.told.get("slots", ())) == n

        await world.until(are)

    await slots(2)
    await world.redis.hset(pool, "slots", "3")
    await slots(3)
    await world.redis.hset(pool, "slots", "rubbish")  # is said in the log, and changes nothing
    before = set(worker.told["slots"])
    await world.redis.hset(pool, mapping={"slots": "1", "restart": "r1"})

    async def another() -> bool:
        now = worker.told["slots"]
        return len(now) == 1 and not before & set(now)

    await world.until(another)
    await world.redis.hset(pool, "queues", "other:1")
    id = await world.submit("noop", queue="other")
    [task] = await world.ended(id)
    assert task.state is State.SUCCESS
    left = await world.submit("noop", queue="default")
    await world.ended(await world.submit("noop", queue="other"))
    assert (await world.queue.get(left)).state is State.PENDING
    await world.redis.hdel(pool, "queues")
    await world.ended(left)
