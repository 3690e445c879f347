"""The tables of the analytics store: made once, kept, and never those of another version."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import clickhouse_connect
import pytest

from ray_app.errors import InvalidSettings, Unavailable
from ray_app.stores.migrate import Migration, migrate, migrations
from ray_app.stores.olap import Olap

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

KNOWN = migrations()
RECORDS = "SELECT number, name, checksum FROM migrations ORDER BY number"


@pytest.fixture
def url(clickhouse_url: str) -> str:
    """Of a database that is not there."""
    return f"{clickhouse_url}/lemo-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Of that database, made and empty: as one before this version's first start."""
    at = urlsplit(url)
    name, where = at.path.strip("/"), {"host": at.hostname, "port": at.port, "autogenerate_session_id": False}
    maker = clickhouse_connect.get_client(**where)
    maker.command(f"CREATE DATABASE `{name}`")
    maker.close()
    opened = clickhouse_connect.get_client(**where, database=name)
    yield opened
    opened.close()


def records(client: Client) -> list[tuple[int, str, str]]:
    return [(int(n), str(name), str(sum)) for n, name, sum in client.query(RECORDS).result_rows]


def wanted(*more: Migration) -> list[tuple[int, str, str]]:
    return [(m.number, m.name, m.checksum) for m in (*KNOWN, *more)]


async def test_an_absent_database_is_made_with_its_tables(url: str) -> None:
    for _ in range(2):  # the second start finds all applied
        opened = Olap(url)
        found = await opened.query(RECORDS)
        assert [tuple(r.values()) for r in found] == wanted()
        assert await opened.query("SELECT count() AS n FROM behaviors") == [{"n": 0}]
        (here,) = await opened.query("SELECT currentDatabase() AS name, max(applied_at) AS at FROM migrations")
        assert here["name"] == urlsplit(url).path.strip("/")
        assert here["at"] > 1_700_000_000_000
        await opened.close()


@pytest.mark.parametrize("statements", [1, 2], ids=["one that ended in the middle", "one before there were records"])
async def test_a_database_with_tables_is_adopted(url: str, client: Client, statements: int) -> None:
    (events,) = (m for m in KNOWN if m.name == "0001_events")
    for statement in events.statements[:statements]:
        client.command(statement)
    client.insert("behaviors", [["t", "e1"]], column_names=["tenant", "event_id"])
    opened = Olap(url)
    assert await opened.query("SELECT event_id FROM behaviors") == [{"event_id": "e1"}]
    assert await opened.query("SELECT count() AS n FROM slates") == [{"n": 0}]
    await opened.close()
    assert records(client) == wanted()


async def test_several_that_start_at_once_do_no_harm(url: str) -> None:
    several = [Olap(url) for _ in range(6)]
    columns = ["tenant", "request_id"]
    await asyncio.gather(*(o.insert("slates", columns, [("t", str(k))]) for k, o in enumerate(several)))
    found = await several[0].query("SELECT number, name, checksum FROM migrations FINAL ORDER BY number")
    assert [tuple(r.values()) for r in found] == wanted()
    assert await several[1].query("SELECT count() AS n FROM slates FINAL") == [{"n": len(several)}]
    await asyncio.gather(*(o.close() for o in several))


def test_a_new_file_is_applied_once(client: Client) -> None:
    migrate(client)
    new = Migration(9000, "9000_new", ("CREATE TABLE counted (n Int64) ENGINE = MergeTree ORDER BY n",))
    for _ in range(2):  # a second time it would fail: the table is there
        migrate(client, [*KNOWN, new])
    assert records(client) == wanted(new)


async def test_a_file_that_changed_is_refused(url: str, client: Client) -> None:
    migrate(client, [*KNOWN[:-1], Migration(KNOWN[-1].number, KNOWN[-1].name, ("SELECT 1",))])
    opened = Olap(url)
    for _ in range(2):  # also when it is asked again
        with pytest.raises(InvalidSettings, match=rf"{KNOWN[-1].name}\.sql .*restore it"):
            await opened.query("SELECT 1")
    await opened.close()


async def test_a_database_of_a_newer_version_is_refused(url: str, client: Client) -> None:
    migrate(client, [*KNOWN, Migration(9000, "9000_later", ("SELECT 1",))])
    opened = Olap(url)
    with pytest.raises(InvalidSettings, match=rf"9000_later.*up to {KNOWN[-1].name}.*later one"):
        await opened.query("SELECT 1")
    await opened.close()


def test_comments_and_line_breaks_of_a_file_may_change(client: Client) -> None:
    same = [Migration(m.number, m.name, tuple(s.replace("\n", " \n  ") for s in m.statements)) for m in KNOWN]
    migrate(client, same)
    migrate(client)
    assert [m.checksum for m in same] == [m.checksum for m in KNOWN]


async def test_a_database_that_cannot_be_made_says_so(clickhouse_url: str) -> None:
    """A name that no file system takes stands for a right that the user lacks."""
    opened = Olap(f"{clickhouse_url.replace('//', '//me:s3cret@')}/{'d' * 300}")
    with pytest.raises(InvalidSettings, match=r"not there.*CREATE DATABASE") as caught:
        await opened.query("SELECT 1")
    assert "s3cret" not in str(caught.value)
    await opened.close()


async def test_no_error_shows_the_password() -> None:
    away = Olap("http://me:s3cret@127.0.0.1:9/shop", timeout_s=1)
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9/shop") as caught:
        await away.version()
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"
    await away.close()
    with pytest.raises(InvalidSettings, match="allowed: http") as refused:
        Olap("clickhouse://me:s3cret@127.0.0.1")
    assert "s3cret" not in str(refused.value)
