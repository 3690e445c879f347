"""Analytics: our client and the client of the field against the chDB server."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import clickhouse_connect
import httpx
import lz4.frame
import numpy as np
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from ray_app.errors import LemoError, Unavailable
from ray_app.stores.olap import Olap

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

BEHAVIOR = ("tenant", "event_id", "visitor", "item_id", "type", "value", "position", "occurred_at", "appended_at")


@pytest.fixture
async def olap(clickhouse_url: str) -> AsyncIterator[Olap]:
    opened = Olap(clickhouse_url)
    await opened.query("TRUNCATE TABLE behaviors")
    yield opened
    await opened.close()


@pytest.fixture
def client(clickhouse_url: str) -> Iterator[Client]:
    """As anybody would open it."""
    at = urlsplit(clickhouse_url)
    opened = clickhouse_connect.get_client(host=at.hostname, port=at.port, autogenerate_session_id=False)
    opened.command("CREATE OR REPLACE TABLE numbers_in (n Int64, word String) ENGINE = MergeTree ORDER BY n")
    yield opened
    opened.close()


async def test_what_is_inserted_is_queried(olap: Olap) -> None:
    line = ("t", "e1", "u:ü", "i'1\\", "click", None, 3, 1, 2)
    await olap.insert("behaviors", BEHAVIOR, [line])
    found = await olap.query(f"SELECT {', '.join(BEHAVIOR)} FROM behaviors")
    assert found == [dict(zip(BEHAVIOR, line, strict=True))]


async def test_an_insert_of_nothing_is_nothing(olap: Olap) -> None:
    await olap.insert("behaviors", BEHAVIOR, [])
    assert await olap.query("SELECT * FROM behaviors") == []


async def test_a_repeated_event_is_one_row_in_deduplicated_reads(olap: Olap) -> None:
    for _ in range(2):
        await olap.insert("behaviors", BEHAVIOR, [("t", "e1", "u:1", "i1", "click", 1.0, None, 1, 2)])
    assert await olap.query("SELECT count() AS n FROM behaviors FINAL") == [{"n": 1}]


async def test_two_tenants_may_have_the_same_event_id(olap: Olap) -> None:
    for tenant in ("shop", "shop-2", "shop"):
        await olap.insert("behaviors", BEHAVIOR, [(tenant, "e1", "u:1", "i1", "click", 1.0, None, 1, 2)])
    found = await olap.query("SELECT tenant, count() AS n FROM behaviors FINAL GROUP BY tenant ORDER BY tenant")
    assert found == [{"tenant": "shop", "n": 1}, {"tenant": "shop-2", "n": 1}]


async def test_the_peer_says_its_version(olap: Olap, capsys: pytest.CaptureFixture[str]) -> None:
    version = await olap.version()
    with capsys.disabled():
        print(f"\nanalytics: {version}")
    assert re.fullmatch(r"ClickHouse \d+\.\d+\..*", version)


async def test_user_and_password_of_the_url_go_along(clickhouse_url: str) -> None:
    opened = Olap(clickhouse_url.replace("//", "//me:p%40ss%2F1@"))
    await opened.query("SELECT 1")
    assert opened._client is not None
    sent = opened._client.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == b"me:p@ss/1"
    await opened.close()


@pytest.mark.parametrize(
    "value", ["plain", "a'b", 'a"b', "back\\slash", "line\nbreak", "tab\tback\r", "日本 ü", "", "{x:String}"]
)
async def test_a_parameter_comes_through_as_it_is(olap: Olap, value: str) -> None:
    assert await olap.query("SELECT {x:String} AS x", {"x": value}) == [{"x": value}]


async def test_parameters_of_other_types(olap: Olap) -> None:
    asked = {"n": 2**40, "f": 1.5, "names": ["a'b", "c\\d"], "none": None}
    sql = "SELECT {n:Int64} AS n, {f:Float64} AS f, {names:Array(String)} AS names, {none:Nullable(String)} AS none"
    assert await olap.query(sql, asked) == [asked]


async def test_a_parameter_of_an_earlier_query_is_not_there_in_the_next(olap: Olap) -> None:
    await olap.query("SELECT {earlier:String}", {"earlier": "x"})
    with pytest.raises(LemoError, match="earlier"):
        await olap.query("SELECT {earlier:String}")


async def test_columns_are_arrays(olap: Olap) -> None:
    found = await olap.columns("SELECT number AS n, toString(number) AS word FROM numbers(1000)")
    assert np.array_equal(found["n"], np.arange(1000))
    assert found["word"][7] == "7"
    assert await olap.columns("SELECT number AS n FROM numbers(0)") == {}


async def test_a_wrong_query_says_what_is_wrong_and_the_next_one_works(olap: Olap) -> None:
    with pytest.raises(LemoError, match="no_such_table"):
        await olap.query("SELECT * FROM no_such_table")
    assert await olap.query("SELECT 1 AS one") == [{"one": 1}]


async def test_many_ask_at_once(clickhouse_url: str) -> None:
    several = [Olap(clickhouse_url) for _ in range(8)]
    found = await asyncio.gather(*(o.query("SELECT {n:Int64} AS n", {"n": k}) for k in range(5) for o in several))
    assert [f[0]["n"] for f in found] == [k for k in range(5) for _ in several]
    await asyncio.gather(*(o.close() for o in several))


async def test_a_server_that_is_away_is_unavailable() -> None:
    away = Olap("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        await away.query("SELECT 1")
    await away.close()


def test_a_large_insert_arrives_whole(client: Client) -> None:
    """It is sent as many LZ4 frames."""
    client.insert("numbers_in", [(n, f"word {n}") for n in range(300_000)], column_names=["n", "word"])
    found = client.query("SELECT count(), sum(n), uniqExact(word) FROM numbers_in").result_rows
    assert found == [(300_000, sum(range(300_000)), 300_000)]


@pytest.mark.parametrize("compress", [False, "lz4"])
def test_bytes_that_look_like_a_statement_are_data(clickhouse_url: str, client: Client, compress: bool | str) -> None:
    at, word = urlsplit(clickhouse_url), "\nINSERT INTO x FORMAT Native\n\n"
    other = clickhouse_connect.get_client(
        host=at.hostname, port=at.port, autogenerate_session_id=False, compress=compress
    )
    other.insert("numbers_in", [(10, word), (13, "\n")], column_names=["n", "word"])
    assert client.query("SELECT * FROM numbers_in ORDER BY n").result_rows == [(10, word), (13, "\n")]
    other.close()


def test_settings_hold_for_one_query(client: Client) -> None:
    ask = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    before = client.query(ask).result_rows
    assert client.query(ask, settings={"max_block_size": 777}).result_rows == [("777",)]
    assert client.query(ask).result_rows == before


def test_an_error_in_the_middle_of_an_answer_is_an_error(client: Client) -> None:
    with pytest.raises(DatabaseError, match=r"throwIf|non-zero"):
        client.query("SELECT throwIf(number = 500000) FROM numbers(1000000)", settings={"max_block_size": 1000})


def test_another_encoding_is_refused_by_name(clickhouse_url: str) -> None:
    answer = httpx.post(clickhouse_url, content=b"x", headers={"Content-Encoding": "br"})
    assert answer.status_code == 415
    assert "lz4" in answer.text


def test_a_cut_frame_writes_nothing(clickhouse_url: str, client: Client) -> None:
    lines = "".join(f"{n}\tword{n}\n" for n in range(200_000)).encode()
    whole = lz4.frame.compress(b"INSERT INTO numbers_in FORMAT TabSeparated\n" + lines)
    answer = httpx.post(clickhouse_url, content=whole[: len(whole) // 2], headers={"Content-Encoding": "lz4"})
    assert answer.status_code >= 400
    assert client.query("SELECT count() FROM numbers_in").result_rows == [(0,)]
    answer = httpx.post(clickhouse_url, content=whole, headers={"Content-Encoding": "lz4"})
    assert answer.status_code == 200, answer.text
    assert client.query("SELECT count() FROM numbers_in").result_rows == [(200_000,)]
