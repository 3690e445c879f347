"""How a document of ours lies in MongoDB, and how what is asked of it is written there.

`_id` is "<tenant>/<kind>/<id>". A body's top-level values that a condition may name lie under `fields`; the rest
(lists, objects, names with dots or `$`, numbers beyond 64 bits) is JSON text in `rest`, because BSON cannot hold all
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from ray_app.errors import InvalidField
from ray_app.stores.base import Document, Where, is_word, kind_of

MOST_BYTES = 8 * 1024 * 1024  # of JSON; MongoDB takes 16 MB, and a short number is longer in BSON


def scope_of(tenant: str, kind: str) -> str:
    """What the `_id` of all documents of this kind begins with."""
    return f"{quote(tenant, safe='')}/{quote(kind, safe='')}/"


def counter_of(tenant: str, name: str) -> str:
    """The `_id` of a counter."""
    return f"{quote(tenant, safe='')}/{name}"


def within(scope: str, after: str = "") -> list[dict[str, Any]]:
    """All ids of the scope that are greater than `after`."""
    return [{"_id": {"$gt": scope + after}}, {"_id": {"$lt": scope[:-1] + chr(ord("/") + 1)}}]


def to_query(w: Where, scope: str) -> dict[str, Any]:
    w.check()
    name, values = (f"fields.{w.field}", w.values)
    if w.field == "id":
        name, values = "_id", [scope + value for value in w.values if isinstance(value, str)]
    if w.op == "in" or not values:
        return {name: {"$in": values}}
    return {name: {f"${w.op}": values[0]}}


def to_row(d: Document, now: int) -> dict[str, Any]:
    """Raises InvalidField for a body that may be too large for a row."""
    text = orjson.dumps(d.body)
    if len(text) > MOST_BYTES:
        raise InvalidField("document", d.id, f"a body of at most {MOST_BYTES} bytes; it has {len(text)}")
    body = orjson.loads(text)
    fields = {name: value for name, value in body.items() if is_word(name) and kind_of(value)}
    large = {name: value for name, value in fields.items() if isinstance(value, int) and value >= 2**63}
    rest = {name: value for name, value in body.items() if name not in fields or name in large}
    fields |= {name: float(value) for name, value in large.items()}  # near enough to be compared
    made = {"version": d.version, "deleted": d.deleted, "written_at": now, "fields": fields}
    return {**made, "rest": orjson.dumps(rest).decode()} if rest else made


def to_document(row: Mapping[str, Any], scope: str) -> Document:
    body = {name: _plain(value) for name, value in row["fields"].items()}
    if "rest" in row:
        body |= orjson.loads(row["rest"])
    return Document(row["_id"][len(scope) :], int(row["version"]), body, row["deleted"])


def _plain(value: Any) -> Any:
    """The driver reads a 64-bit integer as a type of its own."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
