"""Small shops for the unit tests: items, shelves, visitors and events, as the real parts make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_app.catalog.changes import Change
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelf import Shelf
from ray_app.events.schema import item_to_dict
from ray_app.features.boards import DAYS, Board
from ray_app.features.view import Moment
from ray_app.types import Behavior, Interactions, Item, Scores, Visitor

NOW = 1_800_000_000_000
DAY_MS = 86_400_000
TENANT = "t"


def item(id: str, version: int = 1, **fields: Any) -> Item:
    return Item(**{"tenant": TENANT, "type": "item", "title": f"title of {id}", "id": id, "version": version, **fields})


def change(row: int, one: Item, vector: Scores | None = None, space: str = "") -> Change:
    return Change(one.id, row, one.version, {**item_to_dict(one), "row": row}, vector, space)


def gone(row: int, id: str, version: int) -> Change:
    return Change(id, row, version, None)


def shelf(items: Sequence[Item], vectors: Any = None, space: str = "space") -> Shelf:
    """One row an item, in their order."""
    made = Shelf()
    made.apply([change(row, one) for row, one in enumerate(items)])
    if vectors is not None:
        made.replace_vectors(space, np.arange(len(items), dtype=np.int32), np.asarray(vectors, np.float32))
    return made


def pinned(n: int, **fields: Any) -> Pinned:
    """Items i0 .. of one category."""
    return shelf([item(f"i{k}", **fields) for k in range(n)]).pin()


def visitor(recent: Sequence[int] = (), seen: Sequence[int] = (), **fields: Any) -> Visitor:
    """Who bought each recent item once, the first an hour ago, the next two hours ago."""
    r = len(recent)
    known = {
        "weights": np.full(r, 5, np.float32), "ages_s": 3600 * np.arange(1, r + 1, dtype=np.float32),
        "counts": np.ones(r, np.float32),
    }  # fmt: skip
    return Visitor("u:1", np.array(recent, np.int32), seen=np.array(seen, np.int32), **{**known, **fields})


def board(hot: Sequence[float]) -> Board:
    """The same sums in every window, and as the hot score."""
    return Board(np.tile(np.asarray(hot, np.float32), (len(DAYS), 1)), np.asarray(hot, np.float32))


def moment(state: Pinned, hot: Sequence[float] = ()) -> Moment:
    return Moment(state, board(hot).covering(state.n), NOW)


def interactions(triples: Sequence[tuple[int, int, int]], n_users: int, n_rows: int, weight: int = 5) -> Interactions:
    """(user, row, age in days), sorted here."""
    ordered = sorted(triples, key=lambda t: -t[2])
    users, rows, ages = np.array(ordered, np.int64).reshape(-1, 3).T
    weights = np.full(len(ordered), weight, np.float32)
    return Interactions(
        users.astype(np.int32), rows.astype(np.int32), NOW - ages * DAY_MS, weights, n_users, n_rows
    )  # fmt: skip


def behavior(event_id: str, item_id: str, at: int = NOW, **fields: Any) -> Behavior:
    known = {"tenant": TENANT, "type": "purchase", "user_id": "1", **fields}
    return Behavior(event_id, item_id=item_id, occurred_at=at, **known)
