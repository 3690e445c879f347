"""What only the served document store can meet: other members, a server that goes and comes, a URL with a secret."""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest
from pymongo import AsyncMongoClient

from ray_app.clock import FixedClock
from ray_app.errors import InvalidField, InvalidSettings, Unavailable
from ray_app.stores.base import Document, Outcome
from ray_app.stores.mongo import MongoDocuments
from ray_app.stores.mongo_client import refuse_unfit, shown_url
from ray_app.stores.mongo_rows import MOST_BYTES
from tests.services.mongo import MongoServer

CLOCK = FixedClock(1_000_000)
SECRETS = ("p%40ss-word", "p@ss-word")


async def test_members_at_once_never_let_an_older_version_win(mongodb_url: str) -> None:
    """The third is a woken zombie: it writes again what was written long ago."""
    members = [MongoDocuments(mongodb_url, CLOCK) for _ in range(3)]

    async def write(member: int) -> None:
        for at in range(10):
            version = at if member == 2 else at * 10 + member
            batch = [Document(f"i{n}", version, {"v": version}) for n in range(50)]
            await members[member].upsert("t", "items", batch)

    await asyncio.gather(*(write(m) for m in range(3)))
    found = await members[0].find("t", "items")
    assert [(d.version, d.body) for d in found] == [(91, {"v": 91})] * 50
    await asyncio.gather(*(m.close() for m in members))


WRITER = """
import asyncio, sys
from ray_app.clock import FixedClock
from ray_app.stores.base import Document
from ray_app.stores.mongo import MongoDocuments

async def work(url, writer):
    documents = MongoDocuments(url, FixedClock())
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(10):
        first = await documents.next_number("t", "rows", 20)
        batch = [Document(str(first + k), n, {"writer": writer}) for k in range(20)]
        await documents.upsert("t", "items", [*batch, Document("shared", writer * 100 + n, {"writer": writer})])
    await documents.close()

asyncio.run(work(sys.argv[1], int(sys.argv[2])))
"""


async def test_several_processes_write_one_database(mongodb_url: str, run_at_once: Callable[..., None]) -> None:
    await asyncio.to_thread(run_at_once, WRITER, mongodb_url, writers=3)
    documents = MongoDocuments(mongodb_url, CLOCK)
    assert await documents.number("t", "rows") == 3 * 10 * 20
    assert await documents.count("t", "items") == 3 * 10 * 20 + 1
    assert await documents.get("t", "items", "shared") == Document("shared", 209, {"writer": 2})
    await documents.close()


class Raced(MongoDocuments):
    """Before its first write another member makes the documents, and the server answers as MongoDB does when both
    insert at one moment: a duplicate key for whoever comes second, of whatever version."""

    others: Sequence[Document] = ()

    async def _write(
        self, db: Any, scope: str, documents: Sequence[Document], folds: Mapping[str, list[int]]
    ) -> tuple[set[str], set[str]]:
        others, self.others = self.others, ()
        if not others:
            return await super()._write(db, scope, documents, folds)
        await super()._write(db, scope, others, {d.id: [n] for n, d in enumerate(others)})
        return set(), set(folds)


async def test_two_that_make_a_document_at_one_moment_are_put_in_order(mongodb_url: str) -> None:
    documents = Raced(mongodb_url, CLOCK)
    documents.others = [Document("older", 1, {}), Document("equal", 2, {}), Document("newer", 3, {"by": "other"})]
    ours = [Document(id, v, {"by": "us"}) for id in ("older", "equal", "newer", "none") for v in (1, 2)]
    updated, stale = Outcome.UPDATED, Outcome.STALE
    assert await documents.upsert("t", "items", ours) == [
        updated, updated, stale, updated, stale, stale, Outcome.CREATED, updated,
    ]  # fmt: skip
    found = {d.id: (d.version, d.body["by"]) for d in await documents.find("t", "items")}
    assert found == {"older": (2, "us"), "equal": (2, "us"), "newer": (3, "other"), "none": (2, "us")}
    await documents.close()


async def test_many_tombstones_are_dropped_and_what_lives_again_is_kept(mongodb_url: str) -> None:
    documents = MongoDocuments(mongodb_url, CLOCK)
    await documents.upsert("t", "items", [Document(f"i{n:04}", 1, {}, deleted=True) for n in range(1_100)])
    await documents.upsert("t", "items", [Document("i0005", 2, {})])
    assert await documents.drop_tombstones(CLOCK.now()) == 0
    assert await documents.drop_tombstones(CLOCK.now() + 1) == 1_099
    assert [d.id for d in await documents.find("t", "items")] == ["i0005"]
    await documents.close()


async def test_a_server_that_is_killed_and_comes_back(mongodb: MongoServer, mongodb_url: str) -> None:
    documents = MongoDocuments(mongodb_url, CLOCK, timeout_s=2.0)
    await documents.upsert("t", "items", [Document("a", 1, {})])
    mongodb.kill()
    calls: list[Callable[[], Any]] = [
        lambda: documents.upsert("t", "items", [Document("b", 1, {})]), lambda: documents.get("t", "items", "a"),
        lambda: documents.find("t", "items"), lambda: documents.count("t", "items"),
        lambda: documents.next_number("t", "rows"), lambda: documents.number("t", "rows"),
        lambda: documents.drop_tombstones(1), documents.version,
    ]  # fmt: skip
    away = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    assert [type(answer) for answer in away] == [Unavailable] * len(calls)
    assert all(mongodb_url in str(answer) for answer in away)
    mongodb.start()
    assert await documents.upsert("t", "items", [Document("b", 1, {})]) == [Outcome.CREATED]
    await documents.close()


@pytest.mark.parametrize(("option", "timeout_s"), [("", 2.0), ("?timeoutMS=2000", 60.0)])
async def test_a_server_that_does_not_answer_is_left_in_time(
    mongodb: MongoServer, mongodb_url: str, option: str, timeout_s: float
) -> None:
    """Of two deadlines the one in the URL counts."""
    documents = MongoDocuments(mongodb_url + option, CLOCK, timeout_s=timeout_s)
    await documents.upsert("t", "items", [Document("a", 1, {})])
    mongodb.freeze()
    began = time.monotonic()
    try:
        for call in (documents.get("t", "items", "a"), documents.upsert("t", "items", [Document("a", 2, {})])):
            with pytest.raises(Unavailable, match="did not answer"):
                await call
    finally:
        mongodb.thaw()
    assert time.monotonic() - began < 15
    assert await documents.get("t", "items", "a") is not None
    await documents.close()


@pytest.mark.parametrize("up", [True, False])
async def test_a_password_stands_in_no_error(mongodb: MongoServer, mongodb_url: str, up: bool) -> None:
    """The peer knows no users, so it refuses every password."""
    url = mongodb_url.replace("//", f"//lemo:{SECRETS[0]}@") + "?authSource=admin&timeoutMS=1000"
    if not up:
        mongodb.kill()
    documents = MongoDocuments(url, CLOCK)
    with pytest.raises(Unavailable, match=r"documents at mongodb://127\.0\.0\.1:\d+/lemo-") as raised:
        await documents.version()
    shown = "".join(traceback.format_exception(raised.value))
    assert not [secret for secret in SECRETS if secret in shown]
    await documents.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://lemo:p%40ss-word@host", "'http://host'; allowed: mongodb://"),
        ("mongodb://lemo:p%40ss-word@host:port/d", "'mongodb://host:port/d', which cannot be used: Port"),
        ("mongodb://lemo:p%40ss-word@host/d e", "'mongodb://host/d e', which cannot be used: Bad"),
        ("mongodb://lemo:p@ss-word@host:1/d", "percent-encode"),
        ("mongodb://lemo:1/p@ss-word@host/d", "percent-encode"),
        ("mongodb://lemo:1/?p@ss-word@host/d", "percent-encode"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(InvalidSettings, match=re.escape(says)) as raised:
        await MongoDocuments(url, CLOCK).version()
    shown = "".join(traceback.format_exception(raised.value))
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://a:1,b:2/d?replicaSet=r", "mongodb://a:1,b:2/d"),
        ("mongodb://u:pw@a:1,b:2/d?tlsCertificateKeyFilePassword=pw", "mongodb://a:1,b:2/d"),
        ("mongodb+srv://u@host/d", "mongodb+srv://host/d"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert shown_url(url) == shown


async def test_the_database_is_that_of_the_url_or_else_our_own(
    mongodb: MongoServer, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = mongodb_url.rpartition("/")[2]
    async with AsyncMongoClient[dict[str, Any]](mongodb.url) as client:
        for url, database in ((mongodb_url, "other"), (mongodb.url, f"{name}-2"), (f"{mongodb.url}/?w=1", f"{name}-3")):
            monkeypatch.setattr("ray_app.stores.mongo.DATABASE", database)  # of each case its own: the server is shared
            documents = MongoDocuments(url, CLOCK)
            await documents.upsert("t", "items", [Document("a", 1, {})])
            await documents.close()
        found = [n for n in await client.list_database_names() if n.startswith((name, "other"))]
    assert sorted(found) == [name, f"{name}-2", f"{name}-3"]


@pytest.mark.parametrize(
    "body", [{"text": "x" * (MOST_BYTES - 11)}, {f"{n:07}": 1 for n in range((MOST_BYTES - 1) // 12)}]
)
async def test_the_largest_body_is_taken_and_a_larger_one_refused(mongodb_url: str, body: dict[str, Any]) -> None:
    documents = MongoDocuments(mongodb_url, CLOCK, timeout_s=60)
    assert MOST_BYTES - 12 <= len(orjson.dumps(body)) <= MOST_BYTES
    await documents.upsert("t", "items", [Document("a", 1, body)])
    assert await documents.get("t", "items", "a") == Document("a", 1, body)
    with pytest.raises(InvalidField, match="at most"):
        await documents.upsert("t", "items", [Document("a", 2, {**body, "a_bit": "more"})])
    await documents.close()


def test_a_server_whose_updates_are_not_atomic_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"FerretDB v1\.24\.0"):
        refuse_unfit("mongodb://host", {"version": "7.0.42", "ferretdbVersion": "v1.24.0"})
    refuse_unfit("mongodb://host", {"version": "7.0.5"})
