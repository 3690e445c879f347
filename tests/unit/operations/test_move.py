"""Imports: through the same checks as the API, resumable, with the dates shifted."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.clock import FixedClock
from ray_app.config import Settings, load
from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Entry
from ray_app.events.memory import MemoryLog
from ray_app.operations.mapping import Map, Section
from ray_app.operations.move import Import, appended
from ray_app.types import Behavior, Item
from tests.unit.make import DAY_MS, NOW
from tests.written import read_behavior, read_item_event

COLUMNS = ("event_id", "user_id", "item_id", "type", "occurred_at")
ORDERS = Section(columns={"event_id": "{row}", "user_id": "who", "item_id": "what", "occurred_at": "when"},
                 constants={"type": "purchase"})  # fmt: skip


class Log(MemoryLog):
    """Goes away after `left` appends."""

    left = 10**9

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        self.left -= 1
        if self.left < 0:
            raise Unavailable("cut off")
        return await super().append(topic, entries)


@dataclass
class World:
    settings: Settings
    clock: FixedClock
    log: Log
    folder: Path
    told: list[tuple[int, int, int]] = field(default_factory=list)

    def job(self, name: str, section: Section | None = None, kind: str = "behaviors", **more: Any) -> Import:
        mapped = Map(kind, section or Section())
        return Import(self, "t", self.folder / name, mapped, self.folder / "rejects.jsonl", **more)

    async def written(self, read: Callable[[bytes], Any] = read_behavior) -> list[Any]:
        topic = self.settings.events.behavior_topic if read is read_behavior else self.settings.events.item_topic
        return [read(e.body) for p in range(4) for e in await self.log.read(topic, p, 0, 10**6)]

    def rejects(self) -> list[dict[str, Any]]:
        file = self.folder / "rejects.jsonl"
        return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []

    def tell(self, rows: int, rejected: int, total: int) -> None:
        self.told.append((rows, rejected, total))

    def csv(self, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        with (self.folder / name).open("w", newline="") as out:
            csv.writer(out).writerows([header, *rows])


@pytest.fixture
def world(tmp_path: Path, clock: FixedClock) -> World:
    return World(load({"LEMO_DATA": str(tmp_path / "data")}), clock, Log(4, clock), tmp_path)


async def test_good_rows_are_written_and_bad_ones_go_to_the_rejects_with_their_reason(world: World) -> None:
    rows = [("e1", "u", "a", "click", NOW), ("e2", "u", "b", "buy", NOW), ("e3", "u", "", "click", NOW),
            ("e4", "u", "c", "click", "2001-01-01")]  # fmt: skip
    world.csv("f.csv", COLUMNS, rows)
    done = await world.job("f.csv").run()
    assert (done.rows, done.rejected, done.done) == (4, 3, True)
    assert await world.written() == [Behavior("e1", "t", "a", "click", NOW, user_id="u")]
    assert [(r["row"], r["reason"], r["metadata"]["field"]) for r in world.rejects()] == [
        (2, "INVALID_FIELD", "type"), (3, "INVALID_FIELD", "item_id"), (4, "INVALID_FIELD", "occurred_at"),
    ]  # fmt: skip
    assert world.rejects()[0]["was"]["event_id"] == "e2"


async def test_history_takes_what_is_older_than_the_api_takes(world: World) -> None:
    world.csv("f.csv", COLUMNS, [("e", "u", "a", "click", "2001-01-01 10:00:00")])
    done = await world.job("f.csv", history=True).run()
    assert done.rejected == 0
    (written,) = await world.written()
    assert written.occurred_at == datetime(2001, 1, 1, 10, tzinfo=UTC).timestamp() * 1000


WRONG: list[Any] = [
    {"event_id": "e", "user_id": "u", "item_id": "a", "type": "click", "occurred_at": [1]},
    {"event_id": "e", "user_id": "u", "item_id": "a", "type": "click", "occurred_at": {"a": 1}},
    {"event_id": "e", "user_id": "u", "item_id": "a", "type": "click", "occurred_at": True},
    {"event_id": "e", "user_id": "u", "item_id": "a", "type": "click", "occurred_at": 1.5e12},
    {"event_id": "e", "user_id": "u", "item_id": "a", "type": "click", "occurred_at": "²"},
    {"event_id": ["e"], "user_id": "u", "item_id": "a", "type": "click", "occurred_at": NOW},
    {"event_id": "e", "colour": "red"},
    [1, 2],
    None,
    "text",
]


@pytest.mark.parametrize("history", [False, True])
async def test_no_row_of_json_stops_an_import(world: World, history: bool) -> None:
    good = {"event_id": "good", "user_id": "u", "item_id": "a", "type": "click", "occurred_at": NOW}
    (world.folder / "f.jsonl").write_bytes(b"\n".join([*(orjson.dumps(w) for w in WRONG), b"{", orjson.dumps(good)]))
    done = await world.job("f.jsonl", history=history).run()
    assert (done.rows, done.rejected) == (len(WRONG) + 2, len(WRONG) + 1)
    assert [b.event_id for b in await world.written()] == ["good"]
    assert [r["row"] for r in world.rejects()] == list(range(1, len(WRONG) + 2))


async def test_a_row_in_another_encoding_is_refused_and_the_next_is_taken(world: World) -> None:
    body = "item_id,title\nTür,Tür\nb,Tür\nc,Tee\n".encode("latin-1")
    (world.folder / "f.csv").write_bytes(body)
    done = await world.job("f.csv", kind="items").run()
    assert (done.rows, done.rejected) == (3, 2)
    assert [(i.id, i.title) for i in await world.written(read_item_event)] == [("c", "Tee")]
    assert [r["metadata"]["field"] for r in world.rejects()] == ["item_id", "title"]


async def test_items_of_parquet_keep_their_types(world: World) -> None:
    table = pa.table({"item_id": ["a"], "title": ["T"], "price": [1.5], "tags": [["x", "y"]],
                      "published_at": [datetime(2026, 1, 2, tzinfo=UTC)], "attributes": [{"k": 1}]})  # fmt: skip
    pq.write_table(table, world.folder / "f.parquet")
    await world.job("f.parquet", kind="items").run()
    (written,) = await world.written(read_item_event)
    assert written == Item(
        "t", "a", "item", "T", NOW, tags=("x", "y"), price=1.5, published_at=1_767_312_000_000, attributes={"k": 1}
    )


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("ray_app.operations.files.BATCH", 50)
    return 50


async def test_an_import_that_was_cut_off_goes_on_where_it_was(world: World, small_batches: int) -> None:
    n = 3 * small_batches + 7
    world.csv("f.csv", ("who", "what", "when"), [("u", f"i{k}", NOW) for k in range(n)])
    world.log.left = 2
    with pytest.raises(Unavailable):
        await world.job("f.csv", ORDERS).run(world.tell)
    assert world.told == [(50, 0, n), (100, 0, n)]
    world.log.left = 10**9
    done = await world.job("f.csv", ORDERS).run(world.tell)
    assert (done.rows, done.done) == (n, True)
    written = await world.written()
    assert sorted(int(b.event_id) for b in written) == list(range(1, n + 1))


async def test_a_batch_that_was_written_but_not_noted_comes_again_with_the_same_ids(world: World) -> None:
    world.csv("f.csv", ("who", "what", "when"), [("u", "i", NOW)] * 3)
    job = world.job("f.csv", ORDERS)
    await job.run()
    job.place().unlink()
    await world.job("f.csv", ORDERS).run()
    assert [b.event_id for b in await world.written()] == ["1", "2", "3"] * 2


async def test_an_import_that_is_done_writes_nothing_again_and_a_changed_file_is_another(world: World) -> None:
    world.csv("f.csv", COLUMNS, [("e1", "u", "a", "click", NOW)])
    first = await world.job("f.csv").run()
    assert await world.job("f.csv").run() == first
    assert len(await world.written()) == 1
    world.csv("f.csv", COLUMNS, [("e1", "u", "a", "click", NOW), ("e2", "u", "a", "click", NOW)])
    assert (await world.job("f.csv").run()).rows == 2
    assert world.job("f.csv").place() != world.job("f.csv", ORDERS).place()


async def test_where_it_ended_is_what_a_flow_must_reach(world: World) -> None:
    world.csv("f.csv", COLUMNS, [(f"e{k}", f"u{k}", "a", "click", NOW) for k in range(50)])
    done = await world.job("f.csv").run()
    topic = world.settings.events.behavior_topic
    ends = {a.partition: a.position + 1 for a in appended(done, topic)}
    assert ends == {p: await world.log.end(topic, p) for p in range(4)}


SHIFTED = ORDERS.model_copy(update={"shift_to_yesterday": True, "time_format": "%d/%m/%Y %H:%M"})


async def test_dates_move_by_whole_days_so_that_the_last_is_yesterday(world: World) -> None:
    world.csv("f.csv", ("who", "what", "when"), [
        ("u", "a", "01/12/2010 08:26"), ("u", "b", "09/12/2011 12:50"), ("u", "c", "08/12/2011 23:59"),
    ])  # fmt: skip
    done = await world.job("f.csv", SHIFTED, history=True).run()
    times = {b.item_id: b.occurred_at for b in await world.written()}
    today = NOW // DAY_MS * DAY_MS
    assert times["b"] == today - DAY_MS + (12 * 60 + 50) * 60_000
    assert times["b"] - times["c"] == (12 * 60 + 51) * 60_000
    assert done.shift_ms % DAY_MS == 0
    assert all(at < today for at in times.values())


async def test_the_shift_is_decided_once_also_when_the_next_day_begins(world: World, small_batches: int) -> None:
    world.csv("f.csv", ("who", "what", "when"), [("u", "a", "09/12/2011 12:50")] * (small_batches + 1))
    expected = await world.job("f.csv", SHIFTED, history=True).shift()
    world.log.left = 1
    with pytest.raises(Unavailable):
        await world.job("f.csv", SHIFTED, history=True).run()
    world.clock.pass_s(3 * 86_400)
    world.log.left = 10**9
    done = await world.job("f.csv", SHIFTED, history=True).run()
    assert done.shift_ms == await world.job("f.csv", SHIFTED, history=True).shift() == expected
    assert len({b.occurred_at for b in await world.written()}) == 1


async def test_a_shift_that_is_given_is_used(world: World) -> None:
    world.csv("f.csv", ("who", "what", "when"), [("u", "a", "09/12/2011 12:50")])
    done = await world.job("f.csv", SHIFTED, history=True, shift_ms=5 * DAY_MS).run()
    assert done.shift_ms == 5 * DAY_MS
    assert (await world.written())[0].occurred_at == datetime(2011, 12, 14, 12, 50, tzinfo=UTC).timestamp() * 1000
