"""What our code relies on in Redis and its client: shapes of answers, atomic scripts, streams, data after kill -9."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    from ray_app.stores.redis import connect

    client = connect(redis_url)
    yield client
    await client.aclose()


async def test_values_come_back_as_bytes(client: Redis) -> None:
    await client.set("a", "ä")
    assert await client.get("a") == "ä".encode()
    assert await client.get("b") is None


async def test_a_pipeline_answers_in_order_and_is_one_round_trip(client: Redis) -> None:
    pipe: Any = client.pipeline(transaction=False)
    pipe.set("a", 1).incrby("a", 4).hset("h", mapping={"x": 1}).hgetall("h").zadd("z", {"m": 1.5})
    pipe.zrevrange("z", 0, -1, withscores=True)
    assert await pipe.execute() == [True, 5, 1, {b"x": b"1"}, 1, [(b"m", 1.5)]]


async def test_an_error_inside_a_pipeline_can_be_returned_in_its_place(client: Redis) -> None:
    await client.set("text", "x")
    pipe: Any = client.pipeline(transaction=False)
    pipe.incrby("text", 1).set("after", 1)
    first, second = await pipe.execute(raise_on_error=False)
    assert isinstance(first, redis.exceptions.ResponseError)
    assert second is True


async def test_a_script_sees_and_writes_at_once_and_survives_a_flush_of_scripts(client: Redis) -> None:
    add = client.register_script("local v = redis.call('INCRBY', KEYS[1], ARGV[1]) return {v, tostring(v)}")
    assert await add(keys=["n"], args=[3]) == [3, b"3"]
    await client.script_flush()
    assert await add(keys=["n"], args=[4]) == [7, b"7"]


async def test_msgpack_and_structs_are_there_for_scripts(client: Redis) -> None:
    source = "local l = cmsgpack.unpack(ARGV[1]) return #l[1]"
    assert await client.eval(source, 0, b"\x91\x93\x01\x02\x03") == 3  # type: ignore[misc]


async def test_a_stream_is_read_from_an_id_on_and_trimmed_by_its_oldest(client: Redis) -> None:
    ids = [await client.xadd("s", {"n": str(n)}) for n in range(5)]
    assert [e[1] for e in (await client.xread({"s": ids[2]}))[0][1]] == [{b"n": b"3"}, {b"n": b"4"}]
    assert await client.xtrim("s", minid=ids[3].decode(), approximate=False) == 3
    assert (await client.xinfo_stream("s"))["first-entry"][0] == ids[3]
    assert await client.xread({"s": ids[4]}) == []


async def test_only_commands_of_redis_6_2_are_there(client: Redis) -> None:
    assert (await client.info("server"))["redis_version"].startswith("6.2.")


async def test_a_transaction_is_there_whole_or_not_at_all_after_kill_9(client: Redis, redis_server: Any) -> None:
    """With fsync every second a busy disk may cost the last two: flows then find an older position and replay."""
    pipe: Any = client.pipeline(transaction=True)
    for n in range(1000):
        pipe.set(f"k{n}", n)
    await pipe.execute()
    redis_server.kill()
    redis_server.start()
    assert await client.dbsize() in (0, 1000)  # the same client, over a new connection


async def test_a_server_that_is_away_is_an_error_at_once_and_not_a_hang(client: Redis, redis_server: Any) -> None:
    await client.ping()
    redis_server.stop()
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.ping()


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "redis+cluster://localhost:6379"])
def test_what_is_no_url_of_a_single_redis_is_refused(url: str) -> None:
    from ray_app.errors import InvalidSettings
    from ray_app.stores.redis import connect

    with pytest.raises(InvalidSettings, match="redis://"):
        connect(url)
