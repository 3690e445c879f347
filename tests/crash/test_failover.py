"""Behind a Sentinel: a master dies or steps down, and what the flows add up stays exact."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import redis
from redis.exceptions import RedisError

from ray_app.stores.redis import connect
from ray_app.streams.state import Op, State
from tests.services.redis import DEBIAN, EMBEDDED, RedisPeer
from tests.services.sentinel import MASTER, SentinelSet

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
PLACE = ("t", 0)
SECONDS = 10.0
BATCHES = 400
WRITES_EVERY_S = 0.005


@pytest.fixture(params=[EMBEDDED, DEBIAN])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SentinelSet]:
    made = SentinelSet(tmp_path, request.param)
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def client(servers: SentinelSet) -> AsyncIterator[Redis]:
    client = connect(servers.url)
    yield client
    await client.aclose()


@pytest.fixture
def state(client: Redis) -> State:
    return State(client, "shared-prefix", "sums", 600)


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """As a flow does while the store is away, for as long as an operator would wait."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return await work()
        except (RedisError, OSError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)  # a poll of other processes, not a race


async def advance(state: State, start: int) -> int:
    """One event: the sum grows by one."""
    return await state.advance(
        PLACE, (start, start + 1), 1_000, [Op(("INCR", "shared-prefix:sum"), f"e{start}", 1_000)]
    )


async def on_both(client: Redis) -> None:
    await client.wait(1, 5_000)


async def port_of(client: Redis) -> int:
    return int((await client.info("server"))["tcp_port"])


async def test_writes_go_on_at_the_new_master(servers: SentinelSet, client: Redis) -> None:
    await client.set("a", "before")
    await on_both(client)
    servers.first.kill()
    await again(lambda: client.set("b", "after"))
    assert await client.mget("a", "b") == [b"before", b"after"]
    assert await port_of(client) == servers.second.port == servers.sentinel.master()


async def test_scripts_and_pipelines_work_at_a_master_that_never_saw_them(servers: SentinelSet, client: Redis) -> None:
    add: Any = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert await add(keys=["n"], args=[3]) == 3
    await on_both(client)
    servers.first.kill()
    await again(client.ping)
    assert await add(keys=["n"], args=[4]) == 7
    pipe: Any = client.pipeline(transaction=False)
    pipe.set("k", 1).incr("k")
    await add(keys=["n"], args=[5], client=pipe)
    assert await pipe.execute() == [True, 2, 12]


async def test_a_writer_who_does_not_know_whether_it_wrote_changes_nothing_twice(
    servers: SentinelSet, client: Redis, state: State
) -> None:
    assert await advance(state, 0) == 1
    await on_both(client)
    servers.first.kill()
    assert await again(lambda: advance(state, 0)) == 1  # refused: told where the flow stands
    assert await advance(state, 1) == 2
    assert await client.get("shared-prefix:sum") == b"2"


async def test_a_script_that_a_server_may_not_run_any_more_is_a_lost_connection(
    servers: SentinelSet, client: Redis, state: State
) -> None:
    """So that it is tried at the master. Nobody closes our connection here, and Redis 6.2 says it in another error."""
    with servers.sentinel.client() as sentinel:  # it is to replace nobody, however long a busy machine's pauses are
        sentinel.execute_command("SENTINEL", "SET", MASTER, "down-after-milliseconds", "60000")
    assert await advance(state, 0) == 1
    servers.first.says(f"REPLICAOF 127.0.0.1 {servers.second.port}".encode())
    with pytest.raises(redis.ConnectionError, match=r"no master|is now a slave"):
        await advance(state, 1)


@pytest.mark.parametrize("servers", [DEBIAN], indirect=True)
async def test_what_the_new_master_never_got_is_applied_again(
    servers: SentinelSet, client: Redis, state: State
) -> None:
    assert await advance(state, 0) == 1
    await on_both(client)
    servers.second.kill()
    assert await advance(state, 1) == 2  # acknowledged, and lost with the master
    servers.first.kill()
    servers.second.start()
    stands = await again(lambda: advance(state, 2))  # refused: the flow seeks back, as far as the replica's file asks
    assert stands < 2
    assert [await advance(state, at) for at in range(stands, 3)] == list(range(stands + 1, 4))
    assert await client.get("shared-prefix:sum") == b"3"


@pytest.mark.parametrize("servers", [EMBEDDED], indirect=True)
@pytest.mark.long
async def test_a_master_that_steps_down_while_flows_write_costs_no_count(
    servers: SentinelSet, client: Redis, state: State
) -> None:
    moved = asyncio.get_running_loop().create_task(_step_down(servers))
    at = 0
    while at < BATCHES or not moved.done():
        at = await again(partial(advance, state, at))
        await asyncio.sleep(WRITES_EVERY_S)  # a rate of writes, not a race
    await moved
    at = await again(partial(advance, state, at))  # the old master may have taken the last one: the flow seeks back
    assert await client.get("shared-prefix:sum") == str(at).encode()
    assert await port_of(client) == servers.second.port


async def _step_down(servers: SentinelSet) -> None:
    """Returns when the replica is the master and the old master follows it. Between the two lie 8 seconds of Sentinel's
    own, in which both take writes: what the old one took is lost."""

    def work() -> None:
        with servers.sentinel.client() as sentinel:
            assert sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)
        deadline = time.monotonic() + 4 * SECONDS
        while not follows(servers.first):
            assert time.monotonic() < deadline, "the old master does not follow"
            time.sleep(0.02)  # a poll of another process, not a race

    await asyncio.to_thread(work)


def follows(server: RedisPeer) -> bool:
    return b"role:slave" in server.says(b"INFO replication")
