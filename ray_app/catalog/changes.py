"""The change feed: one Redis stream per tenant that every serving replica tails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from ray_app.types import Scores

MAX_CHANGES = 100_000  # a replica that fell further behind reloads from documents


@dataclass(frozen=True, slots=True)
class Change:
    """An item's new state. `item` is its document body, None when it was deleted; `vector` float32 [d] or None.
    With `sold_out` it says that alone, by an order of versions of its own: row and item mean nothing then."""

    item_id: str
    row: int
    version: int
    item: Mapping[str, Any] | None
    vector: Scores | None = None
    space: str = ""
    sold_out: bool | None = None


def key(prefix: str, tenant: str) -> str:
    """Of the tenant's stream."""
    return f"{prefix}:changes:{tenant}"


def encode(change: Change) -> dict[str, bytes]:
    """Fields of the stream entry."""
    fields = {
        "head": orjson.dumps([change.item_id, change.row, change.version, change.space, change.sold_out]),
        "item": orjson.dumps(change.item),
    }
    if change.vector is not None:
        fields["vector"] = np.asarray(change.vector, np.float32).tobytes()
    return fields


def decode(fields: Mapping[bytes, bytes]) -> Change:
    """What `encode` wrote, as Redis gives it back."""
    item_id, row, version, space, sold_out = orjson.loads(fields[b"head"])
    raw = fields.get(b"vector")
    vector = None if raw is None else np.frombuffer(raw, np.float32)
    return Change(item_id, row, version, orjson.loads(fields[b"item"]), vector, space, sold_out)
