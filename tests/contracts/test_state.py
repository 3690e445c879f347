"""What our code relies on in Redis and its client: shapes of answers, atomic scripts, streams, data after kill -9.

The embedded server, Debian's, and Debian's behind a Sentinel with passwords; the served ones in database 2.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import redis.exceptions

from ray_app.config import without_password
from ray_app.errors import InvalidSettings
from ray_app.stores.redis import connect
from tests.services.redis import DEBIAN, EMBEDDED, RedisPeer
from tests.services.sentinel import SentinelSet

if TYPE_CHECKING:
    from redis.asyncio import Redis

NEVER_S = 3600.0
PASSWORD = "p@ss/w:rd?"


class Peer(Protocol):
    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...


class Master:
    """What a client sees of a set behind a Sentinel that does not replace the master."""

    def __init__(self, servers: SentinelSet) -> None:
        self._servers, self.url = servers, servers.url
        self.start, self.kill = servers.start, servers.first.kill


@pytest.fixture(scope="module", params=["embedded", "served", "sentinel"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp(f"redis-{request.param}")
    if request.param == "sentinel":
        servers = SentinelSet(folder, DEBIAN, NEVER_S, PASSWORD)
        yield Master(servers)
        servers.kill()
        return
    served = request.param == "served"
    server = RedisPeer(folder, DEBIAN if served else EMBEDDED, database=2 if served else 0)
    yield server
    server.kill()


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Redis]:
    """Of a running, empty server, also when the test before killed it."""
    peer.start()
    client = connect(peer.url)
    await client.flushall()
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


async def test_the_peer_is_recent_enough(client: Redis, peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    version = (await client.info("server"))["redis_version"]
    with capsys.disabled():
        print(f"\nstate: redis-server {version} at {without_password(peer.url)}")
    assert tuple(int(part) for part in version.split(".")[:2]) >= (6, 2)


async def test_what_is_written_lies_in_the_database_of_the_url(client: Redis, peer: Peer) -> None:
    await client.set("lemo:a", 1)
    database = re.search(r"/(\d)(\?.*)?$", peer.url)
    assert database
    assert set(await client.info("keyspace")) == {f"db{database[1]}"}


async def test_a_transaction_is_there_whole_or_not_at_all_after_kill_9(client: Redis, peer: Peer) -> None:
    """With fsync every second a busy disk may cost the last two: flows then find an older position and replay."""
    pipe: Any = client.pipeline(transaction=True)
    for n in range(1000):
        pipe.set(f"k{n}", n)
    await pipe.execute()
    peer.kill()
    peer.start()
    assert await client.dbsize() in (0, 1000)  # the same client, over a new connection


async def test_a_server_that_is_away_is_an_error_at_once_and_not_a_hang(client: Redis, peer: Peer) -> None:
    await client.ping()
    peer.kill()
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.ping()


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "sentinel://localhost:26379"])
def test_what_is_no_url_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="redis://"):
        connect(url)
