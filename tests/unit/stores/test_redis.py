"""One URL says how Redis is reached; what cannot be served is refused with the reason, and no password is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_app.config import load, without_password
from ray_app.errors import InvalidSettings
from ray_app.stores.redis import connect, refuse_cluster
from ray_app.stores.redis_url import Sentinels, parse
from tests.services.redis import DEBIAN, IN_MEMORY, RedisPeer


def sentinels(url: str) -> Sentinels:
    found = parse(url)
    assert isinstance(found, Sentinels)
    return found


@pytest.mark.parametrize("url", ["redis://h:1/3", "rediss://u:p@h", "unix:///run/redis.sock?db=2"])
def test_a_single_server_is_redis_pys_own_affair(url: str) -> None:
    assert parse(url) == url


@pytest.mark.parametrize(
    ("url", "addresses", "servers", "of_sentinels"),
    [
        ("sentinel://h:26379/m", (("h", 26379),), {"db": 0}, {}),
        ("sentinel://h:1,i:2/m/2", (("h", 1), ("i", 2)), {"db": 2}, {}),
        ("sentinel://[::1]:1/m", (("::1", 1),), {"db": 0}, {}),
        ("sentinel://:p%40ss%2F@h:1/m", (("h", 1),), {"db": 0, "password": "p@ss/"}, {}),
        (
            "sentinel://u:p@h:1/m/2?sentinel_username=a&sentinel_password=b%26",
            (("h", 1),),
            {"db": 2, "username": "u", "password": "p"},
            {"username": "a", "password": "b&"},
        ),
        (
            "sentinels://h:1/m?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
            (("h", 1),),
            {"db": 0, "ssl_check_hostname": False, "ssl_ca_certs": "/ca.pem"},
            {"ssl_check_hostname": False, "ssl_ca_certs": "/ca.pem"},
        ),
    ],
)
def test_sentinels_their_master_and_its_database_stand_in_the_url(
    url: str, addresses: Any, servers: dict[str, Any], of_sentinels: dict[str, Any]
) -> None:
    found = sentinels(url)
    assert (found.addresses, found.master, found.tls) == (addresses, "m", url.startswith("sentinels:"))
    assert (found.servers, found.sentinels) == (servers, of_sentinels)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://h:1", "no master"),
        ("sentinel://h:1/m/two", "no number"),
        ("sentinel://h/m", "'h', which is not host:port"),
        ("sentinel://h:1,i/m", "'i', which is not host:port"),
        ("sentinel://h:1/m?db=2", "option 'db'; known: sentinel_username"),
        ("sentinels://h:1/m?ssl_check_hostname=perhaps", "true, false"),
        ("http://:hidden@h:1", "begins with 'http'"),
        ("h:6379", "no scheme"),
        ("redis+cluster://:hidden@h:1", "many slots"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(InvalidSettings, match=says) as refused:
        parse(url)
    assert "hidden" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://:hidden@h:1", "changes keys that a Cluster keeps in many slots"),
        ("http://:hidden@h", "unix://"),
    ],
)
def test_a_url_of_another_kind_is_refused_when_the_settings_are_read(url: str, says: str) -> None:
    with pytest.raises(InvalidSettings, match=says) as refused:
        load({"LEMO_STORES_REDIS_URL": url})
    assert "hidden" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:p@h:1/0", "redis://:***@h:1/0"),
        ("at http://u:p%40@h:1/d, and", "at http://u:***@h:1/d, and"),
        ("sentinel://h:1/m?sentinel_password=b&x=1", "sentinel://h:1/m?sentinel_password=***&x=1"),
        ("kafka://h:1,i:2", "kafka://h:1,i:2"),
    ],
)
def test_a_password_is_shown_as_stars(text: str, shown: str) -> None:
    assert without_password(text) == shown


@pytest.fixture
def cluster_node(tmp_path: Path) -> Iterator[RedisPeer]:
    node = RedisPeer(tmp_path, DEBIAN, (*IN_MEMORY, "--cluster-enabled", "yes"))
    node.start()
    yield node
    node.kill()


async def test_a_node_of_a_cluster_is_refused_also_by_a_plain_url(cluster_node: RedisPeer) -> None:
    async with connect(cluster_node.url) as client:
        with pytest.raises(InvalidSettings, match="changes keys that a Cluster keeps in many slots"):
            await refuse_cluster(client)


async def test_a_single_server_and_one_that_is_away_are_not_refused(redis_url: str) -> None:
    async with connect(redis_url) as here, connect("redis://127.0.0.1:1/0") as away:
        await refuse_cluster(here)
        await refuse_cluster(away)


async def test_a_socket_file_is_as_good_as_a_port(tmp_path: Path) -> None:
    server = RedisPeer(tmp_path, DEBIAN, (*IN_MEMORY, "--unixsocket", str(tmp_path / "s")))
    server.start()
    try:
        async with connect(f"unix://{tmp_path / 's'}?db=2") as client:
            await client.set("a", 1)
            assert set(await client.info("keyspace")) == {"db2"}
    finally:
        server.kill()
