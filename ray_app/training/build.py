"""Build a dataset: its window cut into spans, each span a Parquet file in the blobs, and a page about the whole.

Training reads what was built, never the live tables, so that a version can name its data and be made again from it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from ray_app.analytics import examples
from ray_app.catalog.dataset import Dataset
from ray_app.stores.blobs import Blobs
from ray_app.stores.olap import Olap
from ray_app.training import tables
from ray_app.training.builds import ABOUT, Note, last, whole
from ray_app.training.report import Tell
from ray_app.training.stores import Stores
from ray_app.training.tables import Table
from ray_app.types import DAY_MS

QUERIES = examples.named(Path(__file__).parent / "source.sql")
SPAN_DAYS = 7
TIMES = {"behaviors": "occurred_at", "slates": "answered_at"}


@dataclass(frozen=True, slots=True)
class Span:
    """One file to make, wherever it is made: of [since, until) in ms. `side`: train or later."""

    place: str | Path
    olap: str
    tenant: str
    dataset: Dataset
    folder: str
    since: int
    until: int
    side: str

    @property
    def file(self) -> str:
        return f"{self.side}-{self.since}.parquet"


Gather = Callable[[Callable[[Span], Note], Sequence[Span]], Iterable[Note]]


def here(make: Callable[[Span], Note], spans: Sequence[Span]) -> Iterable[Note]:
    """In this process; training/distributed.py does it by Ray Data."""
    return map(make, spans)


async def build(stores: Stores, tenant: str, dataset: Dataset, tell: Tell, gather: Gather = here) -> dict[str, Any]:
    """The page of the new build: rows, label rate, schema, drift against the build before. A build is named by its
    definition's version and the end of its window, and shows nothing before all its files are there."""
    until = stores.clock.now()
    above = f"{tenant}/datasets/{dataset.name}"
    before = await asyncio.to_thread(last, stores.blobs, tenant, dataset.name)
    id = f"{dataset.version:06d}-{until}"
    if dataset.source.startswith("documents:"):
        notes = [await _documents(stores, tenant, dataset, f"{above}/{id}")]
    else:
        spans = _spans(stores, tenant, dataset, f"{above}/{id}", until)
        notes = await asyncio.to_thread(_gathered, gather, spans, tell)
    page = await asyncio.to_thread(_page, stores.blobs, f"{above}/{id}", dataset, notes, before)
    await asyncio.to_thread(
        stores.blobs.put, f"{above}/{id}/{ABOUT}", orjson.dumps(page, option=orjson.OPT_SERIALIZE_NUMPY)
    )
    tell(f"{dataset.name} {id}: {page['rows']:,} rows")
    return page


def _gathered(gather: Gather, spans: Sequence[Span], tell: Tell) -> list[Note]:
    notes = []
    for note in gather(make, spans):
        notes.append(note)
        tell(f"{len(notes)} of {len(spans)} files: {note['name']}, {note['rows']:,} rows")
    return notes


def _spans(stores: Stores, tenant: str, d: Dataset, folder: str, until: int) -> list[Span]:
    cut = until - d.later_days * DAY_MS
    if d.source.startswith("parquet:"):  # one file, cut by time when it is read
        ends = [(0, cut, "train"), (cut, until, "later")]
    else:
        edges = [*range(cut, until - d.days * DAY_MS, -SPAN_DAYS * DAY_MS), until - d.days * DAY_MS][::-1]
        ends = [(a, b, "train") for a, b in pairwise(edges)] + [(cut, until, "later")]
    return [Span(stores.blobs.place, stores.olap.url, tenant, d, folder, a, b, side) for a, b, side in ends]


def make(span: Span) -> Note:
    """Read, filter and write one file; a span without rows has none."""
    table = tables.filtered(_read(span), span.dataset.filters)
    body = io.BytesIO()
    tables.write(table, body)
    Blobs(span.place).put(f"{span.folder}/{span.file}", body.getvalue())
    return {"name": span.file, "rows": table.num_rows, "sum": sha256(body.getvalue()).hexdigest()}


def _read(span: Span) -> Table:
    kind, _, rest = span.dataset.source.partition(":")
    if kind == "parquet":
        return tables.between(tables.read(rest), "occurred_at", span.since, span.until)
    return asyncio.run(_query(span))


async def _query(span: Span) -> Table:
    olap = Olap(span.olap)
    try:
        if span.dataset.source == "slates":
            return tables.of(await examples.examples(olap, examples.Asked(span.tenant, span.since, span.until)))
        asked = {"tenant": span.tenant, "since": span.since, "until": span.until}
        return tables.of(await olap.columns(QUERIES["behaviors"], asked))
    finally:
        await olap.close()


async def _documents(stores: Stores, tenant: str, dataset: Dataset, folder: str) -> Note:
    """All documents of a kind, their bodies as columns."""
    kind, found, after = dataset.source.partition(":")[2], list[Any](), ""
    while page := await stores.documents.find(tenant, kind, dataset.filters, 1000, after):
        found += [{"id": d.id, **d.body} for d in page]
        after = page[-1].id
    body = io.BytesIO()
    tables.write(tables.of_rows(found), body)
    await asyncio.to_thread(stores.blobs.put, f"{folder}/train-0.parquet", body.getvalue())
    return {"name": "train-0.parquet", "rows": len(found), "sum": sha256(body.getvalue()).hexdigest()}


def _page(blobs: Blobs, folder: str, d: Dataset, notes: Sequence[Note], before: Note | None) -> dict[str, Any]:
    found = [n for n in sorted(notes, key=lambda n: n["name"]) if n["rows"]]
    page: dict[str, Any] = {
        "id": folder.rpartition("/")[2], "dataset": d.public(), "files": {n["name"]: n["sum"] for n in found},
        "rows": sum(n["rows"] for n in found), "later_rows": sum(n["rows"] for n in found if n["name"][:5] == "later"),
    }  # fmt: skip
    return {**page, **tables.about(whole(blobs, folder, page), before)}
