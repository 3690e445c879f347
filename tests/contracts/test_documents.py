"""The port Documents, held by every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from ray_app.clock import FixedClock
from ray_app.errors import InvalidField, Unavailable
from ray_app.stores.base import Document, Documents, Outcome, Where
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.mongo import MongoDocuments
from ray_app.stores.sqlite import SqliteDocuments

ADAPTERS = ("memory", "sqlite", "mongo")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_000_000)


@pytest.fixture(params=ADAPTERS)
async def documents(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> AsyncIterator[Documents]:
    made: dict[str, Callable[[], Documents]] = {
        "memory": lambda: MemoryDocuments(clock),
        "sqlite": lambda: SqliteDocuments(tmp_path / "deep" / "documents.db", clock),
        "mongo": lambda: MongoDocuments(request.getfixturevalue("mongodb_url"), clock),
    }
    opened = made[request.param]()
    yield opened
    await opened.close()


def doc(id: str, version: int = 1, **body: object) -> Document:
    return Document(id, version, body)


async def test_the_peer_says_its_version(documents: Documents, capsys: pytest.CaptureFixture[str]) -> None:
    version = await documents.version()
    with capsys.disabled():
        print(f"\ndocuments: {version}")
    assert version.startswith(("memory", "SQLite 3.", "MongoDB "))


async def test_what_is_written_is_read(documents: Documents) -> None:
    body = {"title": "Ünicode \u2028 ok", "price": 1.5, "tags": ["a", "b"], "none": None, "in": {"x": [1, 2**53]}}
    assert await documents.upsert("t", "items", [doc("a", **body)]) == [Outcome.CREATED]
    found = await documents.get("t", "items", "a")
    assert found == Document("a", 1, body)


async def test_any_json_under_any_name_comes_back_as_it_was(documents: Documents) -> None:
    names = ["", "a.b", "$set", "$", ".", "id", "_id", "0", "größe", "two words", "nul\0", "fields", "version", "rest"]
    values = [
        True, 1, 1.0, "1", None, "", "nul\0", -(2**63), 2**53 + 1, 2**63, 2**64 - 1, 0.1, [], {"$a.b": [{}, None]},
    ]  # fmt: skip
    turned = [values[n:] + values[:n] for n in range(len(values))]
    batch = [Document(f"{n}", 1, dict(zip(names, turned[n], strict=True))) for n in range(len(values))]
    await documents.upsert("t", "items", batch)
    found = await documents.get_many("t", "items", [d.id for d in batch])
    for d in batch:
        assert _exactly(found[d.id].body) == _exactly(d.body)
    listed = await documents.find("t", "items")
    assert {d.id: _exactly(d.body) for d in listed} == {d.id: _exactly(d.body) for d in batch}


def _exactly(body: Mapping[str, object]) -> str:
    """1, 1.0, true and a driver's own kind of integer are equal in Python, and not here."""
    return repr(sorted((name, type(value), value) for name, value in body.items()))


async def test_ids_are_any_text(documents: Documents) -> None:
    ids = [
        "a",
        "a/b",
        "a0",
        "a%2Fb",
        "A",
        " ",
        ".",
        "$id",
        "x\ny",
        "'\"\\",
        "é",
        "e\u0301",
        "日本",
        "z" * 2000,
        "/",
        "0",
    ]
    assert await documents.upsert("t", "items", [doc(i, n=n) for n, i in enumerate(ids)]) == [Outcome.CREATED] * len(
        ids
    )
    assert await documents.upsert("t", "items", [doc(i, 2, n=n) for n, i in enumerate(ids)]) == [Outcome.UPDATED] * len(
        ids
    )
    found = await documents.get_many("t", "items", [*ids, "a/", "b", "absent"])
    assert {i: d.body["n"] for i, d in found.items()} == {i: n for n, i in enumerate(ids)}
    assert [d.id for d in await documents.find("t", "items", after="a")] == sorted(i for i in ids if i > "a")
    assert [d.id for d in await documents.find("t", "items", [Where("id", "eq", "a/b")])] == ["a/b"]


async def test_what_is_not_there_is_none(documents: Documents) -> None:
    assert await documents.get("t", "items", "a") is None
    assert await documents.get_many("t", "items", ["a"]) == {}
    assert await documents.upsert("t", "items", []) == []


async def test_an_older_version_never_overwrites_a_newer_one(documents: Documents) -> None:
    await documents.upsert("t", "items", [doc("a", 2, title="new")])
    assert await documents.upsert("t", "items", [doc("a", 1, title="old")]) == [Outcome.STALE]
    assert (await documents.get_many("t", "items", ["a"]))["a"].body["title"] == "new"


async def test_of_equal_versions_the_later_wins(documents: Documents) -> None:
    await documents.upsert("t", "items", [doc("a", 2, title="first")])
    assert await documents.upsert("t", "items", [doc("a", 2, title="second")]) == [Outcome.UPDATED]
    assert (await documents.get_many("t", "items", ["a"]))["a"].body["title"] == "second"


async def test_one_call_orders_its_own_documents(documents: Documents) -> None:
    batch = [doc("a", 1, n=1), doc("b", 1, n=1), doc("a", 3, n=3), doc("a", 2, n=2)]
    done = await documents.upsert("t", "items", batch)
    assert done == [Outcome.CREATED, Outcome.CREATED, Outcome.UPDATED, Outcome.STALE]
    assert (await documents.get_many("t", "items", ["a"]))["a"] == doc("a", 3, n=3)


async def test_one_call_knows_what_was_stored_before_it(documents: Documents) -> None:
    await documents.upsert("t", "items", [doc("a", 2), doc("b", 9)])
    batch = [doc("a", 1), doc("b", 1), doc("a", 3), doc("a", 2), doc("b", 8), doc("a", 3, last=True)]
    stale, updated = Outcome.STALE, Outcome.UPDATED
    assert await documents.upsert("t", "items", batch) == [stale, stale, updated, stale, stale, updated]
    assert await documents.get_many("t", "items", ["a", "b"]) == {"a": doc("a", 3, last=True), "b": doc("b", 9)}


async def test_a_tombstone_hides_and_refuses_an_older_write(documents: Documents) -> None:
    await documents.upsert("t", "items", [doc("a", 1), doc("b", 1)])
    await documents.upsert("t", "items", [Document("a", 2, {}, deleted=True)])
    assert await documents.get("t", "items", "a") is None
    assert await documents.count("t", "items") == 1
    assert [d.id for d in await documents.find("t", "items")] == ["b"]
    assert (await documents.get_many("t", "items", ["a"], deleted=True))["a"].deleted
    assert await documents.upsert("t", "items", [doc("a", 1)]) == [Outcome.STALE]
    assert await documents.upsert("t", "items", [doc("a", 3)]) == [Outcome.UPDATED]
    assert await documents.get("t", "items", "a") == doc("a", 3)


async def test_tombstones_are_listed_only_where_they_are_asked_for(documents: Documents) -> None:
    written = [doc("a", row=0), Document("b", 2, {"id": "b", "row": 1}, deleted=True), doc("c", row=2)]
    await documents.upsert("t", "items", written)
    assert [d.id for d in await documents.find("t", "items")] == ["a", "c"]
    assert await documents.find("t", "items", deleted=True) == written
    assert await documents.find("t", "items", limit=1, after="a", deleted=True) == written[1:2]
    assert await documents.find("t", "items", [Where("row", "gte", 1)], deleted=True) == written[1:]


async def test_tombstones_are_dropped_by_when_they_were_written(documents: Documents, clock: FixedClock) -> None:
    await documents.upsert("t", "items", [Document("old", 1, {}, deleted=True), doc("kept", 1)])
    clock.pass_s(10)
    await documents.upsert("u", "items", [Document("young", 1, {}, deleted=True)])
    assert await documents.drop_tombstones(clock.now() - 5_000) == 1
    assert await documents.get_many("t", "items", ["old", "kept"], deleted=True) == {"kept": doc("kept", 1)}
    assert set(await documents.get_many("u", "items", ["young"], deleted=True)) == {"young"}


async def test_what_lives_again_while_tombstones_are_dropped_is_kept(documents: Documents, clock: FixedClock) -> None:
    ids = [f"i{n:03}" for n in range(100)]
    for version in range(0, 20, 2):
        await documents.upsert("t", "items", [Document(i, version, {}, deleted=True) for i in ids])
        clock.pass_s(1)
        lives = [doc(i, version + 1) for i in ids]
        await asyncio.gather(documents.drop_tombstones(clock.now()), documents.upsert("t", "items", lives))
        assert await documents.find("t", "items") == lives


async def test_tenants_and_kinds_are_apart(documents: Documents) -> None:
    await documents.upsert("t", "items", [doc("a", n=1)])
    await documents.upsert("u", "items", [doc("a", n=2)])
    await documents.upsert("t", "users", [doc("a", n=3)])
    assert [(await documents.get_many(t, k, ["a"]))["a"].body["n"] for t, k in (("t", "items"), ("u", "items"))] == [
        1,
        2,
    ]
    assert await documents.count("t", "users") == 1
    assert [d.body["n"] for d in await documents.find("t", "users")] == [3]


async def test_names_that_begin_alike_are_apart(documents: Documents) -> None:
    places = [("t", "items"), ("t", "items0"), ("t/items", "x"), ("t", "items/x"), ("t0", "items"), ("t", "item")]
    for n, (tenant, kind) in enumerate(places):
        await documents.upsert(tenant, kind, [doc("x/a", n=n), doc("a", n=n)])
        await documents.next_number(tenant, kind, n + 1)
    for n, (tenant, kind) in enumerate(places):
        assert [(d.id, d.body["n"]) for d in await documents.find(tenant, kind)] == [("a", n), ("x/a", n)]
        assert await documents.count(tenant, kind) == 2
        assert await documents.number(tenant, kind) == n + 1


async def test_pages_by_id_visit_everything_once_in_order(documents: Documents) -> None:
    ids = [f"é{n:02}" if n % 2 else f"i{n:02}" for n in range(25)]
    await documents.upsert("t", "items", [doc(i) for i in reversed(ids)])
    seen: list[str] = []
    while page := await documents.find("t", "items", limit=10, after=seen[-1] if seen else ""):
        seen += [d.id for d in page]
    assert seen == sorted(ids)
    assert await documents.find("t", "items", limit=0) == []


async def test_pages_with_a_condition_go_over_what_is_deleted(documents: Documents) -> None:
    batch = [doc(f"i{n:03}", n=n, even=n % 2 == 0) for n in range(60)]
    await documents.upsert("t", "items", batch)
    await documents.upsert("t", "items", [Document(f"i{n:03}", 2, {}, deleted=True) for n in range(0, 60, 3)])
    seen: list[int] = []
    after = ""
    while page := await documents.find("t", "items", [Where("even", "eq", True)], limit=7, after=after):
        seen, after = seen + [d.body["n"] for d in page], page[-1].id
    assert seen == [n for n in range(60) if n % 2 == 0 and n % 3]


async def test_writers_at_once_never_let_an_older_version_win(documents: Documents) -> None:
    """Each writes the versions of two ids in an order of its own, while a reader looks."""
    outcomes: list[Outcome] = []
    seen: list[int] = []
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for n in range(40):
            version = (n * 17 + writer * 29) % 200
            batch = [
                doc("a", version, v=version),
                doc(f"w{writer}", n),
                doc("b", version, v=version),
                doc("a", version - 1),
            ]
            written = await documents.upsert("t", "items", batch)
            outcomes.append(written[0])
            assert written[1] is (Outcome.UPDATED if n else Outcome.CREATED)
            assert written[3] is Outcome.STALE

    async def read() -> None:
        while not done.is_set():
            found = await documents.get("t", "items", "a")
            seen.append(found.version if found else -1)
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    await asyncio.gather(*(write(w) for w in range(8)))
    done.set()
    await reader
    newest = max((n * 17 + w * 29) % 200 for n in range(40) for w in range(8))
    for id in ("a", "b"):
        assert await documents.get("t", "items", id) == doc(id, newest, v=newest)
    assert seen == sorted(seen)
    assert outcomes.count(Outcome.CREATED) == 1


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ([Where("category", "eq", "x")], ["a", "b"]),
        ([Where("category", "in", ["y", "z"])], ["c"]),
        ([Where("category", "in", [])], []),
        ([Where("price", "gte", 2)], ["b", "c"]),
        ([Where("price", "lte", 2.0)], ["a", "b"]),
        ([Where("price", "gte", 2), Where("category", "eq", "x")], ["b"]),
        ([Where("sold", "eq", True)], ["a"]),
        ([Where("sold", "in", (True, False))], ["a", "b"]),
        ([Where("absent", "eq", "x")], []),
        ([Where("absent", "lte", 9)], []),
        ([Where("id", "in", {"c", "a"})], ["a", "c"]),
        ([Where("id", "gte", "b")], ["b", "c"]),
        ([Where("id", "gte", "b"), Where("id", "lte", "b")], ["b"]),
        ([Where("category", "eq", "x' OR '1'='1")], []),
        ([Where("mixed", "eq", 1)], ["b"]),
        ([Where("mixed", "eq", True)], ["a"]),
        ([Where("mixed", "eq", "1")], ["c"]),
        ([Where("mixed", "gte", 0)], ["b"]),
        ([Where("mixed", "gte", "")], ["c"]),
        ([Where("mixed", "lte", True)], ["a"]),
        ([Where("mixed", "in", [1.0, "1"])], ["b", "c"]),
        ([Where("price", "in", ["1", True])], []),
        ([Where("id", "eq", 1)], []),
        ([Where("tags", "eq", "x")], []),
        ([Where("large", "gte", 2**63 - 1)], ["a"]),
    ],
)
async def test_conditions(documents: Documents, where: list[Where], expected: list[str]) -> None:
    await documents.upsert("t", "items", [
        doc("a", category="x", price=1, sold=True, mixed=True, large=2**63),
        doc("b", category="x", price=2, sold=False, mixed=1, large=5),
        doc("c", category="y", price=3.5, mixed="1", tags=["x"]),
        doc("1", mixed=None),
        Document("d", 1, {"category": "x", "price": 9, "sold": True, "mixed": 1}, deleted=True),
    ])  # fmt: skip
    assert [d.id for d in await documents.find("t", "items", where)] == expected


@pytest.mark.parametrize(
    "where",
    [
        Where("a", "like", "x"), Where("a') OR 1=1 --", "eq", 1), Where("", "eq", 1), Where("a.b", "eq", 1),
        Where("a", "eq", None), Where("a", "eq", {"$gt": ""}), Where("a", "eq", ["x"]), Where("a", "gte", 2**63),
        Where("a", "in", "xyz"), Where("a", "in", ["x", None]),
    ],
)  # fmt: skip
async def test_a_condition_that_is_not_known_is_refused(documents: Documents, where: Where) -> None:
    await documents.upsert("t", "items", [doc("a", a=1)])
    with pytest.raises(InvalidField):
        await documents.find("t", "items", [where])


async def test_numbers_are_given_once(documents: Documents) -> None:
    assert await documents.number("t", "rows") == 0
    assert await documents.next_number("t", "rows") == 0
    assert await documents.next_number("t", "rows", 5) == 1
    given = await asyncio.gather(*(documents.next_number("t", "rows") for _ in range(50)))
    assert sorted(given) == list(range(6, 56))
    assert await documents.number("t", "rows") == 56
    assert await documents.next_number("t", "users") == 0
    assert await documents.next_number("u", "rows") == 0


async def test_many_ids_at_once(documents: Documents) -> None:
    batch = [doc(f"i{n}", n=n) for n in range(2_500)]
    assert set(await documents.upsert("t", "items", batch)) == {Outcome.CREATED}
    found = await documents.get_many("t", "items", [f"i{n}" for n in range(0, 5_000, 2)])
    assert len(found) == 1_250
    assert await documents.count("t", "items") == 2_500


async def test_sqlite_keeps_its_documents_and_numbers_between_openings(tmp_path: Path, clock: FixedClock) -> None:
    for n in range(3):
        documents = SqliteDocuments(tmp_path / "d.db", clock)
        assert await documents.next_number("t", "rows") == n
        await documents.upsert("t", "items", [doc(f"i{n}")])
        await documents.close()
    documents = SqliteDocuments(tmp_path / "d.db", clock)
    assert await documents.count("t", "items") == 3
    await documents.close()


async def test_sqlite_that_cannot_be_read_is_unavailable_and_recovers(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "d.db").write_bytes(b"no database at all, and long enough to be looked at" * 100)
    documents = SqliteDocuments(tmp_path / "d.db", clock)
    with pytest.raises(Unavailable, match=r"d\.db"):
        await documents.count("t", "items")
    (tmp_path / "d.db").unlink()
    assert await documents.count("t", "items") == 0
    await documents.close()


WRITER = """
import asyncio, pathlib, sys
from ray_app.clock import FixedClock
from ray_app.stores.base import Document
from ray_app.stores.sqlite import SqliteDocuments

async def work(path, writer):
    documents = SqliteDocuments(pathlib.Path(path), FixedClock())
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(20):
        first = await documents.next_number("t", "rows", 50)
        batch = [Document(str(first + k), n, {"writer": writer}) for k in range(50)]
        await documents.upsert("t", "items", batch)
        await documents.upsert("t", "items", [Document("shared", writer * 100 + n, {"writer": writer})])
    await documents.close()

asyncio.run(work(sys.argv[1], int(sys.argv[2])))
"""


async def test_several_processes_write_one_sqlite_file(
    tmp_path: Path, clock: FixedClock, run_at_once: Callable[..., None]
) -> None:
    """They open it at the same moment, before it exists."""
    run_at_once(WRITER, tmp_path / "d.db", writers=4)
    documents = SqliteDocuments(tmp_path / "d.db", clock)
    assert await documents.number("t", "rows") == 4 * 20 * 50
    assert await documents.count("t", "items") == 4 * 20 * 50 + 1
    assert await documents.get("t", "items", "shared") == doc("shared", 319, writer=3)
    await documents.close()
