"""No task is lost, ends twice, or runs twice at one moment, whatever is killed, stopped or started again.

Each task leaves marks in a list of its own: the begin and the end of every run, with its attempt and pid. A mark of one
run behind the begin of a later one is an overlap; only a process that the test itself had stopped may leave one, and
what it tells the queue then is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.exceptions import RedisError

from ray_app.clock import SystemClock
from ray_app.errors import Unavailable
from ray_app.tasks.script import SCRIPT
from ray_app.tasks.task import ENDED, State, Submission
from tests.crash.fleet import Fleet
from tests.crash.handlers import HANDLERS
from tests.services.redis import EMBEDDED, RedisPeer
from tests.tasks_world import TasksWorld, settings_of
from tests.unit.tasks.hands import Hands

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200 if os.environ.get("SOAK") else 280)]
SOAK = bool(os.environ.get("SOAK"))
N = 10_000 if SOAK else 2_000
LEASE_S = 3.0
ALL = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")  # what it acknowledges survives its kill -9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisPeer]:
    made = RedisPeer(tmp_path, EMBEDDED, ALL)
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def world(server: RedisPeer, tmp_path: Path) -> AsyncIterator[TasksWorld]:
    made = TasksWorld(settings_of(server.url, tmp_path, lease_s=LEASE_S), HANDLERS)
    yield made
    await made.close()


def made(k: int, now: int) -> Submission:
    """Of every kind some."""
    kinds: dict[int, Submission] = {
        0: Submission("toil", {"seconds": 0.05, "value": k}),
        1: Submission("nap", {"failures": 1, "value": k}),
        2: Submission("nap", {"value": k}, eta=now + 1000 + k % 3000),
        3: Submission("picky", {"value": "fail"}),
        4: Submission("fan", {"value": 3}),
        5: Submission("nap", {"seconds": 600.0}, group="cancelled"),
        6: Submission("nap", {"value": k}, after=(f"t{k - 6}",)),
        7: Submission("nap", {"failures": 9}),
        8: Submission("steps", {"value": 3, "seconds": 0.2}),
        9: Submission("picky", {"value": "again"}),
    }
    chosen = kinds.get(k % 40, Submission("nap" if k % 3 else "noop", {"value": k, "seconds": k % 5 / 200}))
    fields = {f: getattr(chosen, f) for f in ("name", "argument", "eta", "after", "group")}
    return Submission(**fields, id=f"t{k}", key=f"key-{k}")


class Trouble:
    """What happens to the fleet, one after another, drawn at random, until `over`; each kind once, but in a soak."""

    def __init__(self, fleet: Fleet, server: RedisPeer, rng: random.Random) -> None:
        self._fleet, self._server, self._rng = fleet, server, rng
        self.done: Counter[str] = Counter()
        self.over = False

    async def go_on(self) -> None:
        kinds = ["kill_slot", "kill_guard", "stop_slot", "kill_worker", "stop_guard", "stop_tree", "restart_redis"]
        kinds.append("restart_all")
        while not self.over and (SOAK or not self.done):
            for kind in self._rng.sample(kinds, len(kinds)):
                if self.over:
                    return
                await getattr(self, kind)()
                self.done[kind] += 1
                self._fleet.fill()
                await asyncio.sleep(self._rng.uniform(0.3, 1.0))

    async def kill_slot(self) -> None:
        self._fleet.kill([p.pid for p in self._some(self._fleet.slots())])

    async def kill_guard(self) -> None:
        self._fleet.kill([p.pid for p in self._some(self._fleet.guards())])

    async def kill_worker(self) -> None:
        self._fleet.kill([self._rng.choice(self._fleet.workers).pid])

    async def stop_slot(self) -> None:
        await self._stop([p.pid for p in self._some(self._fleet.slots())])

    async def stop_guard(self) -> None:
        await self._stop([p.pid for p in self._some(self._fleet.guards())])

    async def stop_tree(self) -> None:
        await self._stop(self._fleet.tree())

    async def _stop(self, pids: list[int]) -> None:
        self._fleet.stop(pids)
        await asyncio.sleep(LEASE_S + 1.5)  # so long that others take over
        self._fleet.go_on(pids)

    async def restart_redis(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(self._rng.uniform(0, LEASE_S / 2))
        await asyncio.to_thread(self._server.start)

    async def restart_all(self) -> None:
        self._fleet.kill_all()
        self._fleet.fill()

    def _some(self, found: list[psutil.Process]) -> list[psutil.Process]:
        return [self._rng.choice(found)] if found else []


async def again(call: Callable[[], Any]) -> Any:
    """As a producer does that wants its task done: the same ids once more."""
    while True:
        try:
            return await call()
        except (Unavailable, RedisError):
            await asyncio.sleep(0.1)  # until Redis is back: a poll of another process, not a race


async def submitted(world: TasksWorld, n: int) -> list[str]:
    ids: list[str] = []
    for first in range(0, n, 50):
        tasks = [made(k, SystemClock().now()) for k in range(first, min(n, first + 50))]
        ids += await again(lambda tasks=tasks: world.queue.submit(*tasks))
        for task in (t for t in tasks if t.group == "cancelled"):
            await again(lambda task=task: world.queue.cancel(str(task.id)))
        await asyncio.sleep(0.5)  # so that they come while others are done, and trouble goes on
    return ids


def overlaps(marks: list[str], stopped: set[int]) -> list[str]:
    """Marks of a run behind the begin of a later run."""
    newest, found = 0, []
    for what, attempt, pid in (m.split() for m in marks if m.count(" ") == 2):
        if int(attempt) < newest and int(pid) not in stopped:
            found.append(f"{what} of {attempt} by {pid} after the begin of {newest}")
        newest = max(newest, int(attempt))
    return found


async def assert_each_ended_once(world: TasksWorld, ids: list[str], stopped: set[int]) -> Counter[str]:
    tasks = await world.queue.get_many(ids)
    assert set(tasks) == set(ids), "lost"
    assert {t.state for t in tasks.values()} <= ENDED
    history = [json.loads(h) for h in await world.redis.lrange("lemo:tasks:history", 0, -1)]  # type: ignore[misc]
    ends = Counter(h["id"] for h in history if State(h["state"]) in ENDED)
    assert {id: n for id, n in ends.items() if n != 1} == {}
    assert set(ids) <= set(ends)
    dead = {i.decode() for i in await world.redis.zrange("lemo:tasks:dead", 0, -1)}
    marks = {id: await world.effects(id) for id in ids}
    assert {id: o for id, m in marks.items() if (o := overlaps(m, stopped))} == {}
    for task in tasks.values():
        assert (task.state is State.FAILURE) == (task.id in dead), task
        if task.state is State.SUCCESS and task.name in ("nap", "toil", "steps"):
            ended = [m for m in marks[task.id] if m.startswith(f"end {task.attempt} ")]
            assert len(set(ended)) == 1, (task, marks[task.id])  # the client repeats a push whose answer was lost
    assert (await world.queue.counts())["running"] == 0
    return Counter(t.state.value for t in tasks.values())


async def test_every_task_ends_once_whatever_is_killed_or_stopped(world: TasksWorld, server: RedisPeer) -> None:
    rng = random.Random(7)
    fleet = Fleet(world.settings, 2, rng)
    trouble = Trouble(fleet, server, rng)
    troubles = asyncio.create_task(trouble.go_on())
    try:
        ids = await submitted(world, N)
        await world.until(lambda: nothing_open(world), timeout_s=1000 if SOAK else 200)
    finally:
        trouble.over = True
        await troubles
        fleet.close()
    server.start()
    ends = await assert_each_ended_once(world, ids, fleet.stopped)
    print(dict(ends), dict(trouble.done))
    assert ends["SUCCESS"] > N * 0.7
    assert ends["FAILURE"] >= 2 * (N // 40)
    assert ends["REVOKED"] >= N // 80
    assert sum(trouble.done.values()) >= 5


async def nothing_open(world: TasksWorld) -> bool:
    return bool((await again(world.queue.counts))["open"] == 0)


@pytest.mark.parametrize("guarded", [True, False])
async def test_these_checks_fail_where_the_script_does_not_ask_whose_a_task_is(
    world: TasksWorld, server: RedisPeer, guarded: bool
) -> None:
    owner = "t[2] == token or t[3] ~= '' and token == 'job:' .. t[3]"
    assert owner in SCRIPT
    hands = [Hands(server.url, script=SCRIPT if guarded else SCRIPT.replace(owner, "true")) for _ in range(2)]
    [id] = hands[0].submit(Submission("nap"))
    hands[0].lease_ms = 1
    for one in hands:
        claimed = one.claim()
        assert claimed is not None
        await world.redis.rpush(f"effects:{id}", f"begin {claimed[0].attempt} 0")  # type: ignore[misc]
        if one is hands[0]:
            stale = claimed
            one.reap()
    assert hands[0].finish(stale, "SUCCESS", result="1") is not guarded
    if guarded:
        await world.redis.rpush(f"effects:{id}", "end 2 0")  # type: ignore[misc]
        hands[1].finish(claimed, "SUCCESS", result="1")
        await assert_each_ended_once(world, [id], set())
    else:
        with pytest.raises(AssertionError):
            await assert_each_ended_once(world, [id], set())


async def test_a_stopped_worker_is_refused_when_it_wakes_and_its_slots_end(world: TasksWorld) -> None:
    rng = random.Random(1)
    first = Fleet(world.settings, 1, rng)
    second = None
    try:
        id = await world.submit("steps", {"value": 100, "seconds": 0.1})

        async def runs() -> bool:
            return len(await world.queue.log(id)) > 2

        await world.until(runs)
        slot = int((await world.effects(id))[0].split()[2])
        tree = first.tree()
        assert slot in tree
        first.stop(tree)
        second = Fleet(world.settings, 1, rng)

        async def taken() -> bool:
            return (await world.queue.get(id)).attempt == 2

        await world.until(taken)
        told = len(await world.queue.log(id))
        woken = time.monotonic()
        first.go_on(tree)

        async def gone() -> bool:
            return not psutil.pid_exists(slot) or psutil.Process(slot).status() == psutil.STATUS_ZOMBIE

        await world.until(gone, timeout_s=10)
        print(f"ended {time.monotonic() - woken:.2f} s after it woke")  # within 1 s, unless the machine is busy
        [task] = await world.ended(id)
        assert (task.state, task.result, task.attempt) == (State.SUCCESS, 2, 2)
        assert not [line for line in (await world.queue.log(id))[told:] if line.endswith("of 1")]
        assert [m.split()[:2] for m in await world.effects(id)] == [["begin", "1"], ["begin", "2"], ["end", "2"]]
    finally:
        first.close()
        if second is not None:
            second.close()


async def test_a_task_of_many_leases_runs_once(world: TasksWorld) -> None:
    """A 2-hour task in small. Celery's Redis broker hands out again what is not acknowledged within its visibility
    timeout, an hour unless said: with `acks_late` a long task then runs twice, and again (celery#5935, #3270)."""
    fleet = Fleet(world.settings, 2, random.Random(1))
    try:
        id = await world.submit("steps", {"value": 8, "seconds": LEASE_S / 2})
        [task] = await world.ended(id, timeout_s=60)
        assert (task.result, task.attempt) == (1, 1)
        assert [m.split()[:2] for m in await world.effects(id)] == [["begin", "1"], ["end", "1"]]
    finally:
        fleet.close()
