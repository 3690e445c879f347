"""Files of rows: CSV, JSON lines (each also .gz) and Parquet, as batches of dicts."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import orjson

from ray_app.errors import InvalidSettings

BATCH = 5000
Batch = list[dict[str, Any]]


def batches(file: Path) -> Iterator[Batch]:
    """Rows in order. A line that is no JSON object comes as {"": the line}, for its import to refuse."""
    kind = kind_of(file)
    if kind == "csv":
        yield from _csv(file)
    elif kind == "parquet":
        yield from _parquet(file)
    else:
        yield from _lines(file)


def kind_of(file: Path) -> str:
    """csv, jsonl or parquet. Raises InvalidSettings, naming what can be read."""
    name = file.name.removesuffix(".gz")
    for suffix, kind in ((".csv", "csv"), (".jsonl", "jsonl"), (".ndjson", "jsonl"), (".parquet", "parquet")):
        if name.endswith(suffix):
            if not file.exists():
                raise InvalidSettings(f"{file} does not exist")
            return kind
    raise InvalidSettings(f"{file} has no known kind; known: .csv, .jsonl, .ndjson (each also .gz), .parquet")


def _csv(file: Path) -> Iterator[Batch]:
    """Every value as text; a row with too many cells has a cell "" more, one with too few has None. Bytes that are no
    UTF-8 come as lone surrogates, which no field of ours may hold. Raises InvalidSettings for a quote without end."""
    import csv

    with _open(file) as lines:
        reader = csv.DictReader((line.decode("utf-8-sig", "surrogateescape") for line in lines), restkey="")
        try:
            yield from _batched(cast(Iterator[dict[str, Any]], reader))
        except csv.Error as e:
            raise InvalidSettings(f"{file} cannot be read as CSV from line {reader.line_num + 1} on: {e}") from None


def _lines(file: Path) -> Iterator[Batch]:
    with _open(file) as lines:
        yield from _batched(_object(line) for line in lines if line.strip())


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[Batch]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"": line.decode(errors="replace")[:200]}


def _parquet(file: Path) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(BATCH):
        yield batch.to_pylist()


def _open(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb"))
