"""Redis servers as they should not be, each a real one: what `lemo check` says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ray_app.operations.check import Dependency, Finding, Part, check
from ray_app.operations.check_redis import RedisCheck, memory, persistence, release
from ray_app.stores.redis import connect
from tests.services.redis import DEBIAN, DURABLE, IN_MEMORY, RedisPeer
from tests.services.sentinel import SentinelSet

GOOD = (*DURABLE, "--maxmemory", "64mb")
Start = Callable[..., RedisPeer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A server with the options given."""
    started: list[RedisPeer] = []

    def work(*options: str) -> RedisPeer:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(RedisPeer(folder, DEBIAN, options))
        started[-1].start()
        return started[-1]

    yield work
    for one in started:
        one.kill()


async def found_at(url: str) -> Dependency:
    part = Part(
        "state", "stores.redis_url", url, False, lambda: RedisCheck(connect(url), url), lambda store: store.ask()
    )
    (found,) = (await check([part], {})).dependencies
    return found


def bad(found: Dependency) -> dict[str, tuple[str, str]]:
    return {f.about: (f.level, f.says) for f in found.findings if f.level != "ok"}


async def test_a_server_that_is_set_up_well_has_nothing_against_it(start: Start) -> None:
    found = await found_at(start(*GOOD).url)
    assert (found.reachable, found.authenticated, bad(found)) == (True, None, {})
    assert found.version.startswith("Redis 7.")
    assert found.round_trip_ms is not None
    assert 0 < found.round_trip_ms < 1000


async def test_a_server_that_evicts_fails(start: Start) -> None:
    found = bad(await found_at(start(*GOOD, "--maxmemory-policy", "allkeys-lru").url))
    assert list(found) == ["maxmemory-policy"]
    level, says = found["maxmemory-policy"]
    assert level == "fail"
    assert "is allkeys-lru" in says


@pytest.mark.parametrize(
    ("options", "level", "says"),
    [
        (IN_MEMORY, "fail", "nothing is written to disk"),
        (("--save", "3600 1"), "warn", "snapshots only"),
    ],
)
async def test_a_server_without_an_append_only_file_is_named(
    start: Start, options: tuple[str, ...], level: str, says: str
) -> None:
    found = bad(await found_at(start(*options, "--maxmemory", "64mb").url))
    assert list(found) == ["persistence"]
    assert found["persistence"][0] == level
    assert found["persistence"][1].startswith(says)


async def test_a_server_without_a_limit_or_that_leaves_the_disk_to_the_kernel_is_warned_of(start: Start) -> None:
    found = bad(await found_at(start("--appendonly", "yes", "--appendfsync", "no").url))
    assert {about: level for about, (level, _) in found.items()} == {"maxmemory": "warn", "appendfsync": "warn"}


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:secret@"])
async def test_a_wrong_password_is_told_from_a_server_that_is_away(start: Start, login: str) -> None:
    server = start(*GOOD, "--requirepass", "secret")
    found = await found_at(server.url.replace("//", f"//{login}"))
    assert (found.reachable, found.authenticated, found.missing) == (True, False, True)
    (failed,) = found.findings
    assert (failed.level, "password" in failed.do) == ("fail", True)


async def test_the_right_password_is_accepted(start: Start) -> None:
    found = await found_at(start(*GOOD, "--requirepass", "secret").url.replace("//", "//:secret@"))
    assert (found.authenticated, bad(found)) == (True, {})
    assert "secret" not in str(found)


async def test_a_user_who_may_run_no_scripts_fails_and_one_who_may_not_see_the_configuration_passes(
    start: Start,
) -> None:
    server = start(*GOOD)
    with redis.Redis(port=server.port, protocol=2) as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">pw", "~*", "+@all", "-config", "-eval")
        client.execute_command("ACL", "SETUSER", "enough", "on", ">pw", "~*", "+@all", "-config")
    found = bad(await found_at(server.url.replace("//", "//few:pw@")))
    assert list(found) == ["scripts"]
    assert found["scripts"][0] == "fail"
    assert bad(await found_at(server.url.replace("//", "//enough:pw@"))) == {}


async def test_a_node_of_a_cluster_and_a_replica_fail(start: Start) -> None:
    node = bad(await found_at(start(*GOOD, "--cluster-enabled", "yes").url))
    assert (node["cluster"][0], "many slots" in node["cluster"][1]) == ("fail", True)
    replica = bad(await found_at(start(*GOOD, "--replicaof", "127.0.0.1", str(start(*GOOD).port)).url))
    assert replica["role"] == ("fail", "this is a replica: it takes no writes")


async def test_nothing_at_the_port_is_not_reached() -> None:
    found = await found_at("redis://127.0.0.1:1/0")
    assert (found.reachable, found.authenticated, found.version) == (False, None, "")
    assert "127.0.0.1:1" in found.findings[0].says


async def test_behind_a_sentinel_the_master_is_judged_and_that_its_writes_may_be_lost(tmp_path: Path) -> None:
    servers = SentinelSet(tmp_path)
    try:
        servers.start()
        found = await found_at(servers.url)
        assert found.reachable
        assert "min-replicas-to-write is 0" in bad(found)["replicas"][1]
        with redis.Redis(port=servers.first.port, protocol=2) as client:
            client.config_set("min-replicas-to-write", 1)
        assert "replicas" not in bad(await found_at(servers.url))
        servers.kill_replica()
        assert "no replica follows" in bad(await found_at(servers.url))["replicas"][1]
    finally:
        servers.kill()


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (memory({"maxmemory": 100, "used_memory": 10}, False), "ok"),
        (memory({"maxmemory": 100, "used_memory": 85}, False), "warn"),
        (memory({"maxmemory": 100, "used_memory": 96}, False), "fail"),
        (memory({"maxmemory": 0, "used_memory": 10}, True), "ok"),
        (persistence({"aof_enabled": 1, "aof_last_write_status": "err"}, ""), "fail"),
        (persistence({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, "3600 1"), "fail"),
        (persistence({"aof_enabled": 0, "rdb_last_bgsave_status": "ok"}, None), "warn"),
        (release({"redis_version": "6.0.16"}), "fail"),
        (release({"redis_version": "6.2.14"}), "ok"),
        (release({"redis_version": "7.2.5"}), "ok"),
        (release({"redis_version": "8.0.1"}), "warn"),
    ],
)
def test_what_no_server_can_be_brought_to_say_is_judged_too(found: Finding, level: str) -> None:
    assert found.level == level
    assert bool(found.do) or level == "ok" or found.about == "version"
