"""What is sent in the crash tests: rows of the example shop as behaviours, items and slates."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ray_app.events.base import Entry
from ray_app.events.schema import behavior_entry, delete_entry, item_entry, slate_entry
from ray_app.types import Behavior, Item, Placed, Reason, Slate
from tests.crash.recount import IDS

ORDERS = Path(__file__).parents[2] / "examples" / "retail" / "orders.csv.gz"
SIZE = 5000 if os.environ.get("SOAK") else 140  # events of a test, before each is sent twice
TYPES = ("purchase", "click", "purchase", "cart", "impression", "like", "dislike")
NOW = 1_700_000_000_000
DAY_MS = 86_400_000
BROKEN = Entry("broken", b"\xff no event of ours")


def orders(n: int) -> Iterator[dict[str, str]]:
    with gzip.open(ORDERS, "rt", newline="") as file:
        yield from islice(csv.DictReader(file), n)


def behaviors(tenant: str, n: int = SIZE, now: int = NOW) -> list[Behavior]:
    """Every 50th happened too long ago to count for the hot score."""
    first = datetime(2010, 12, 1, tzinfo=UTC)
    found = []
    for k, row in enumerate(orders(n)):
        at = datetime.strptime(row["InvoiceDate"], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        found.append(
            Behavior(
                event_id=f"{row['InvoiceNo']}-{k}",
                tenant=tenant,
                item_id=row["StockCode"],
                type=TYPES[k % len(TYPES)],
                occurred_at=now - DAY_MS * (100 if k % 50 == 0 else 2) + int((at - first).total_seconds()) * 1000,
                user_id=row["CustomerID"],
                value=float(row["UnitPrice"]),
                scenario="home" if k % 3 else None,
                request_id=_request_id(k),
            )
        )
    return found


def _request_id(k: int) -> str | None:
    """Of ours with arms, of ours without, made up, or none."""
    arms = {"ranking": "new" if k % 8 else "old", "page": "long"} if k % 4 == 0 else {}
    made = (IDS.make(f"{k // 20}", "feed", arms), IDS.make("1", "home"), "1.home.ffffffffffffffff", None)
    return made[k % 4]


def item_changes(tenant: str, n: int = SIZE) -> list[Entry]:
    """Newer, older and equal versions of some items, and a delete now and then."""
    found = []
    for k, row in enumerate(orders(n)):
        id, version = row["StockCode"][:4], (k * 7) % 100
        if k % 11 == 10:
            found.append(delete_entry(tenant, id, version))
        else:
            item = Item(tenant, id, "item", f"title {version}", version, category=id[:2], published_at=NOW)
            found.append(item_entry(item))
    return found


def slates(tenant: str, n: int = SIZE) -> list[Entry]:
    found = []
    for k, row in enumerate(orders(n)):
        shown = Placed(row["StockCode"], 1.0, ("hot",), Reason("HOT", "Popular now"), (0.5, float(k)))
        found.append(slate_entry(Slate(f"r{k}.home.x", tenant, "home", f"u:{row['CustomerID']}", NOW + k, (shown,))))
    return found


def entries(flow: str, tenant: str) -> list[Entry]:
    """What the flow of this name reads."""
    if flow == "items":
        return item_changes(tenant)
    return slates(tenant) if flow == "slates" else [behavior_entry(b) for b in behaviors(tenant)]
