"""What goes wrong with Celery on Redis, Beat and Flower does not go wrong here; each test names its failure."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import ray_app.tasks
from ray_app.clock import SystemClock
from ray_app.config import Tasks
from ray_app.errors import InvalidField, Unavailable
from ray_app.stores.redis import connect
from ray_app.tasks.queue import Queue
from ray_app.tasks.task import State, Submission
from tests.conftest import RedisServer
from tests.crash.handlers import HANDLERS
from tests.tasks_world import TasksWorld, settings_of
from tests.unit.tasks.hands import Hands


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[TasksWorld]:
    made = TasksWorld(settings_of(redis_url, tmp_path, slots=1), HANDLERS)
    yield made
    await made.close()


def now() -> int:
    return SystemClock().now()


async def test_a_task_with_an_eta_is_given_out_once(redis_url: str, hands: Hands) -> None:
    """Celery: a worker fetches it early and holds it unacknowledged; one visibility timeout later another gets it too,
    and so on until it is due (celery#2599, #5306, #6229)."""
    others = [Hands(redis_url) for _ in range(3)]
    [id] = hands.submit(Submission("noop", eta=now() + 300))
    for one in (hands, *others):
        one.lease_ms = 1
        assert one.claim() is None  # nobody holds it before it is due
        assert one.call("reap", {"lease": 1}) == []
    await asyncio.sleep(max(0, hands.task(id).eta - now() + 1) / 1000)  # until it is due
    for one in (hands, *others):
        one.lease_ms = 60_000
    found = [c for one in (hands, *others, hands) if (c := one.claim())]
    assert [c[0].id for c in found] == [id]
    assert found[0][0].attempt == 1


def test_what_waits_behind_a_long_task_is_not_held_by_its_worker(redis_url: str, hands: Hands) -> None:
    """Celery: prefetched tasks wait, reserved, behind a long one, while other workers idle, and are redelivered when
    the visibility timeout passes, so that they run twice (celery#5935)."""
    ids = hands.submit(*(Submission("noop") for _ in range(5)))
    assert hands.claim() is not None
    assert hands.redis.zrange(f"{hands.prefix}:leases", 0, -1) == [ids[0].encode()]
    other = Hands(redis_url)
    assert [c[0].id for _ in range(5) if (c := other.claim())] == ids[1:]


def test_a_worker_with_a_short_lease_does_not_shorten_those_of_others(redis_url: str, hands: Hands) -> None:
    """Celery: of all apps that share a broker the shortest visibility timeout counts."""
    [id] = hands.submit(Submission("noop"))
    claimed = hands.claim()
    assert claimed is not None
    hasty = Hands(redis_url)
    hasty.lease_ms = 1
    for _ in range(3):
        assert hasty.call("reap", {"lease": 1}) == []
    assert hands.finish(claimed, "SUCCESS", result="1")
    assert hands.task(id).attempt == 1


async def test_no_lock_of_a_dead_worker_delays_the_taking_over(redis_url: str, hands: Hands) -> None:
    """Celery: who restores unacknowledged tasks takes `unacked_mutex` for 300 s; when it dies, nobody else may."""
    hands.lease_ms = 1
    ids = hands.submit(Submission("noop"), Submission("noop"))
    hands.claim()
    hands.claim()
    reaped = set(hands.reap())
    while reaped != set(ids):
        reaped |= set(hands.reap())
    hands.redis.client_kill_filter(_id=hands.redis.client_id())  # it dies just after
    other = Hands(redis_url)
    assert {c[0].id for _ in range(2) if (c := other.claim())} == set(ids)
    assert not list(other.redis.scan_iter("*mutex*"))


async def test_high_priority_is_first_and_low_is_never_starved(hands: Hands) -> None:
    """Celery on Redis: priority 0 is the highest, opposite to RabbitMQ, there are four steps, and the lowest starve."""
    hands.submit(*(Submission("noop", queue="low_priority") for _ in range(10)))
    hands.submit(*(Submission("noop", queue="high_priority") for _ in range(100)))
    begun = [c[0].queue for _ in range(22) if (c := hands.claim())]
    assert begun[0] == "high_priority"
    assert begun.count("low_priority") == 2


async def test_nothing_is_pickled(redis_url: str, hands: Hands) -> None:
    """Celery: with pickle as serializer who can write to the broker runs code in every worker."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.kill, (os.getpid(), signal.SIGKILL)

    with pytest.raises(InvalidField):
        hands.submit(Submission("noop", {"value": Evil()}))
    with pytest.raises(InvalidField):
        hands.submit(Submission("noop", {"value": pickle.dumps(Evil())}))
    folder = Path(ray_app.tasks.__file__).parent
    assert not [f.name for f in folder.iterdir() if f.suffix in (".py", ".lua") and "import pickle" in f.read_text()]


async def test_what_is_known_of_a_task_outlives_who_looked_at_it(redis_server: RedisServer, hands: Hands) -> None:
    """Flower: what it knows of tasks is in its memory, and gone when it is started again."""
    [id] = hands.submit(Submission("noop"))
    claimed = hands.claim()
    assert claimed is not None
    hands.call("tell", {"id": id, "token": claimed[1], "line": "half way", "progress": '{"done":1}'})
    hands.finish(claimed, "SUCCESS", result="7")
    redis_server.stop()
    redis_server.start()
    client = connect(redis_server.url)
    queue = Queue(client, "lemo", Tasks(), SystemClock(), HANDLERS)  # as another process
    task = await queue.get(id)
    assert (task.state, task.result, task.progress) == (State.SUCCESS, 7, {"done": 1})
    assert await queue.log(id) == ["half way"]
    await client.aclose()


async def test_what_failed_is_kept_with_its_error_and_can_be_done_again(world: TasksWorld) -> None:
    """Celery and Flower: no dead letters; what failed for good is a line in a log."""
    id = await world.submit("nap", {"failures": 4, "value": 1})
    await world.work_off()
    [dead] = await world.queue.dead()
    assert (dead.id, dead.error, dict(dead.argument)["value"]) == (id, "ValueError: failure 4", 1)
    assert await world.queue.replay(id) == [id]


async def test_what_the_broker_did_not_take_is_an_error(redis_server: RedisServer, hands: Hands) -> None:
    """Beat: an error of sending is logged, and the occurrence is lost."""
    redis_server.kill()
    client = connect(redis_server.url)
    queue = Queue(client, "lemo", Tasks(), SystemClock(), HANDLERS)
    with pytest.raises(Unavailable):
        await queue.submit(Submission("noop", id="once"))
    redis_server.start()
    assert await queue.submit(Submission("noop", id="once")) == ["once"]
    await client.aclose()


@pytest.mark.long
async def test_workers_go_on_after_redis_was_away(world: TasksWorld, redis_server: RedisServer) -> None:
    """Celery: after the connection to Redis is lost and back, a worker stands still until it is started again
    (celery#8030, #8091, #10205)."""
    world.start_worker()
    for stop in (redis_server.stop, redis_server.kill):
        before = await world.submit("nap", {"seconds": 0.5})
        stop()
        await asyncio.sleep(1.0)
        redis_server.start()
        after = await world.submit("noop")
        assert [t.state for t in await world.ended(before, after)] == [State.SUCCESS] * 2
    await world.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    [task] = await world.ended(await world.submit("noop"))
    assert task.state is State.SUCCESS
