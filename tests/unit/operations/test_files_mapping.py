"""Files of rows, and maps from somebody's columns to our fields."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.errors import InvalidField, InvalidSettings
from ray_app.operations.files import BATCH, batches, kind_of
from ray_app.operations.mapping import Map, Section, load_map, typed

ROWS = [{"id": "a", "title": 'Ü "quoted", 1'}, {"id": "b", "title": "two\nlines"}]


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"\n".join(orjson.dumps(r) for r in rows)


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return bytes(out.getvalue())


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "f.csv": _csv, "f.jsonl": _lines, "f.ndjson": _lines, "f.parquet": _parquet,
    "f.csv.gz": lambda rows: gzip.compress(_csv(rows)), "f.jsonl.gz": lambda rows: gzip.compress(_lines(rows)),
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def work(name: str, body: bytes) -> Path:
        (tmp_path / name).write_bytes(body)
        return tmp_path / name

    return work


@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_every_kind_come_as_they_are(write: Callable[[str, bytes], Path], name: str) -> None:
    assert [r for b in batches(write(name, WRITERS[name](ROWS))) for r in b] == ROWS


@pytest.mark.parametrize("name", WRITERS)
def test_rows_come_in_batches(write: Callable[[str, bytes], Path], name: str) -> None:
    file = write(name, WRITERS[name]([{"n": str(k)} for k in range(BATCH + 3)]))
    found = list(batches(file))
    assert [len(b) for b in found] == [BATCH, 3]
    assert [r["n"] for b in found for r in b] == [str(k) for k in range(BATCH + 3)]


def test_a_byte_order_mark_is_no_part_of_a_name(write: Callable[[str, bytes], Path]) -> None:
    assert list(batches(write("f.csv", b"\xef\xbb\xbfid\r\na\r\n"))) == [[{"id": "a"}]]


def test_a_line_that_is_no_object_comes_marked(write: Callable[[str, bytes], Path]) -> None:
    file = write("f.jsonl", b'{"a": 1}\n\n  \n{"a":\n[1]\n\xff\n{"a": 2}')
    (found,) = batches(file)
    assert found == [{"a": 1}, {"": '{"a":\n'}, {"": "[1]\n"}, {"": "\ufffd\n"}, {"a": 2}]


def test_a_row_with_too_many_cells_comes_marked_and_one_with_too_few_lacks_them(
    write: Callable[[str, bytes], Path],
) -> None:
    (found,) = batches(write("f.csv", b"a,b\n1,2,3\n1\n"))
    assert found == [{"a": "1", "b": "2", "": ["3"]}, {"a": "1", "b": None}]


def test_text_in_another_encoding_comes_with_what_cannot_be_written_as_utf_8(
    write: Callable[[str, bytes], Path],
) -> None:
    (found,) = batches(write("f.csv", "id,title\na,Tür\nb,Tee\n".encode("latin-1")))
    assert found[1] == {"id": "b", "title": "Tee"}
    with pytest.raises(UnicodeEncodeError):
        found[0]["title"].encode()


def test_a_quote_that_never_ends_is_an_error_with_its_line(write: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(InvalidSettings, match=r"f\.csv.* line 2"):
        list(batches(write("f.csv", b'id,title\na,"' + b"x" * 200_000)))


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl"])
def test_an_empty_file_has_no_rows(write: Callable[[str, bytes], Path], name: str) -> None:
    assert list(batches(write(name, b""))) == []


def test_a_file_that_is_absent_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"x\.csv does not exist"):
        kind_of(tmp_path / "x.csv")
    with pytest.raises(InvalidSettings, match=r"known: \.csv, \.jsonl"):
        kind_of(tmp_path / "x.xlsx")


def read(section: Section, row: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return Map("behaviors", section).reader()(row, number)


def test_without_a_map_the_columns_have_our_names_and_empty_cells_are_absent() -> None:
    assert read(Section(), {"item_id": "a", "value": "", "type": None}) == {"item_id": "a"}


def test_a_map_takes_columns_templates_and_constants() -> None:
    section = Section(
        columns={"item_id": "Code", "event_id": "{Invoice}-{Code}-{row}", "value": "Price"},
        constants={"type": "purchase", "value": 1},
    )
    row = {"Code": "85123A", "Invoice": 536365, "Price": "", "Country": "UK"}
    assert read(section, row, 7) == {
        "item_id": "85123A", "event_id": "536365-85123A-7", "type": "purchase", "value": 1,
    }  # fmt: skip


def test_a_template_needs_all_its_columns() -> None:
    with pytest.raises(InvalidField, match=r"Invoice.*template"):
        read(Section(columns={"event_id": "{Invoice}-{row}"}), {"Code": "x"})


def test_a_template_reaches_nothing_but_columns() -> None:
    with pytest.raises(InvalidField):
        read(Section(columns={"event_id": "{Invoice.__class__}"}), {"Invoice": "1"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"price": "1.5", "value": "2"}, {"price": 1.5, "value": 2.0}),
        ({"position": "3", "version": "12"}, {"position": 3, "version": 12}),
        ({"price": "free", "version": "1.5"}, {"price": "free", "version": "1.5"}),
        ({"tags": "a| b ||c", "media": "x"}, {"tags": ["a", "b", "c"], "media": ["x"]}),
        ({"tags": ["a"], "price": 2}, {"tags": ["a"], "price": 2}),
    ],
)
def test_text_becomes_the_numbers_and_lists_that_it_stands_for(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert typed(given) == expected


MAP = """
[items]
file = "items.csv"
columns = { item_id = "Code", title = "Name" }
[behaviors]
columns = { item_id = "Code", occurred_at = "Date", event_id = "{row}" }
constants = { type = "purchase" }
shift_to_yesterday = true
"""


def test_a_map_file_has_a_section_for_each_kind(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MAP)
    items, behaviors = load_map(tmp_path / "m.toml", "items"), load_map(tmp_path / "m.toml", "behaviors")
    assert items.file == tmp_path / "items.csv"
    assert (behaviors.file, behaviors.section.shift_to_yesterday) == (None, True)
    assert [behaviors.column_of(f) for f in ("occurred_at", "event_id", "value")] == ["Date", None, None]
    assert load_map(None, "items").column_of("title") == "title"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[items]\ncolumns = { item = 'Code' }", "names 'item' for items; known: item_id"),
        ("[items]\nconstants = { colour = 'red' }", "names 'colour'"),
        ("[items]\ncolumn = { item_id = 'Code' }", r"items\.column"),
        ("[item]\n", "names 'item'.*known: items, behaviors"),
        ("[items]\ncolumns = { item_id = 3 }", r"items\.columns\.item_id"),
        ("[items", "cannot be read"),
        ("items = 3", "items"),
    ],
)
def test_a_wrong_map_is_refused_by_key(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(InvalidSettings, match=named):
        load_map(tmp_path / "m.toml", "items")


def test_a_map_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"m\.toml cannot be read"):
        load_map(tmp_path / "m.toml", "items")


@pytest.mark.parametrize("source", ["{Unit.Price}", "{}", "{Invoice", "{a[0]}"])
def test_a_template_that_cannot_be_filled_is_refused_with_its_map(
    write: Callable[[str, bytes], Path], source: str
) -> None:
    file = write("map.toml", f'[behaviors.columns]\nevent_id = "{source}"\n'.encode())
    with pytest.raises(InvalidSettings, match="event_id"):
        load_map(file, "behaviors")
