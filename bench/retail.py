"""The shipped orders, read for the benches: the same items and behaviours that `lemo up` loads, on their own dates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ray_app.catalog.changes import Change
from ray_app.catalog.item import parse
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelf import Shelf
from ray_app.events.schema import item_to_dict
from ray_app.features.content import space_of
from ray_app.models.text import TextEmbedder
from ray_app.training.history import History, from_columns
from ray_app.types import Item

FOLDER = Path(__file__).parent.parent / "examples" / "retail"


def orders() -> pd.DataFrame:
    """visitor, item_id, type, occurred_at (ms), sorted by time."""
    found = pd.read_csv(FOLDER / "orders.csv.gz", dtype=str)
    at = pd.to_datetime(found.InvoiceDate).to_numpy().astype("datetime64[ms]").astype(np.int64)
    whole = pd.DataFrame(
        {"visitor": "u:" + found.CustomerID, "item_id": found.StockCode, "type": "purchase", "occurred_at": at}
    )
    return whole.sort_values("occurred_at", kind="stable").reset_index(drop=True)


def item_table() -> list[dict[str, Any]]:
    """Every item as the API takes it."""
    found = pd.read_csv(FOLDER / "items.csv.gz", dtype={"StockCode": str, "Description": str}, keep_default_na=False)
    sold = pd.to_datetime(found.FirstSold).to_numpy().astype("datetime64[ms]").astype(np.int64)
    columns = zip(found.StockCode, found.Description, found.Price, found.Category, sold, strict=True)
    return [
        {"item_id": code, "title": title or code, "category": category, "price": float(price), "published_at": int(at)}
        for code, title, price, category, at in columns
    ]


def items(until: int, tenant: str = "bench") -> list[Item]:
    """Those first sold before `until`."""
    return [parse(raw, tenant, until) for raw in item_table() if raw["published_at"] < until]


def shelf(until: int, size: int = 384) -> tuple[Pinned, TextEmbedder]:
    """Items first sold before `until`, embedded."""
    found = items(until)
    embedder = TextEmbedder.fit([f"{i.title} {i.category}" for i in found], size)
    return made(found, embedder), embedder


def made(items: Sequence[Item], embedder: TextEmbedder) -> Pinned:
    """A shelf of these items, one row each in their order."""
    shelf, space = Shelf(len(items)), space_of(embedder)
    assert space is not None
    shelf.apply([Change(i.id, k, i.version, item_to_dict(i)) for k, i in enumerate(items)])
    shelf.replace_vectors(embedder.version, np.arange(len(items), dtype=np.int32), space.embed(items))
    return shelf.pin()


def history(found: pd.DataFrame, pinned: Pinned) -> History:
    columns = {name: found[name].to_numpy() for name in found.columns}
    return from_columns(columns, pinned.rows, pinned.n)


def ms(day: str) -> int:
    return int(np.datetime64(day, "ms").astype(np.int64))
