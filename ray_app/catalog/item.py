"""Items: what a client may write, and what it reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ray_app.errors import InvalidField
from ray_app.events.schema import is_number, parse_id, parse_time, refuse_unknown
from ray_app.types import Item

FIELDS = (
    "item_id", "type", "title", "text", "category", "tags", "price", "media", "published_at", "status",
    "attributes", "version",
)  # fmt: skip
AVAILABLE, UNAVAILABLE = "available", "unavailable"
MOST_TEXT, MOST_TITLE, MOST_TAGS, MOST_ATTRIBUTES = 100_000, 1000, 100, 32 * 1024


def parse(raw: Mapping[str, Any], tenant: str, now: int) -> Item:
    """An item as of `version` (default: `now`, ms). Raises InvalidField for the first field that is not allowed."""
    refuse_unknown(raw, FIELDS)
    return Item(
        tenant=tenant,
        id=parse_id("item_id", raw.get("item_id")),
        type=parse_id("type", raw.get("type", "item")),
        title=_words(raw, "title", MOST_TITLE, needed=True),
        version=parse_version(raw.get("version"), now),
        text=_words(raw, "text", MOST_TEXT),
        category=_words(raw, "category", 256),
        tags=_list(raw, "tags"),
        price=_price(raw.get("price")),
        media=_list(raw, "media"),
        published_at=0 if raw.get("published_at") is None else parse_time("published_at", raw["published_at"]),
        status=_status(raw.get("status")),
        attributes=parse_attributes(raw.get("attributes")),
    )


def public(body: Mapping[str, Any]) -> dict[str, Any]:
    """The stored body as a client reads it: `item_id` for `id`, and nothing that is ours (tenant, row)."""
    return {"item_id": body["id"], **{k: body[k] for k in FIELDS[1:] if k in body}}


def parse_version(value: object, now: int) -> int:
    """A writer's own order of updates; the time of receipt when it has none."""
    if value is None:
        return now
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise InvalidField("version", value, "an integer from 0 to 2^53 - 1")
    return value


def _words(raw: Mapping[str, Any], field: str, most: int, needed: bool = False) -> str:
    value = raw.get(field)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or len(value) > most or (needed and not value.strip()):
        raise InvalidField(
            field, value, f"{'a string' if not needed else 'a non-empty string'} of at most {most} characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidField(field, ascii(value), "text that can be written as UTF-8") from None
    return value


def _list(raw: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = raw.get(field)
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MOST_TAGS:
        raise InvalidField(field, value, f"a list of at most {MOST_TAGS} strings")
    return tuple(_words({field: v}, field, 2000, needed=True) for v in value)


def _price(value: object) -> float | None:
    if value is None:
        return None
    if not is_number(value) or value < 0:
        raise InvalidField("price", value, "a number from 0")
    return float(value)


def _status(value: object) -> str:
    if value is None:
        return AVAILABLE
    if value not in (AVAILABLE, UNAVAILABLE):
        raise InvalidField("status", value, f"{AVAILABLE}, {UNAVAILABLE}")
    return str(value)


def parse_attributes(value: object) -> Mapping[str, Any]:
    """Any JSON object of at most MOST_ATTRIBUTES bytes; {} for None. Raises InvalidField."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise InvalidField("attributes", value, "an object")
    try:
        size = len(orjson.dumps([[[[value]]]])) - 8  # what is written here is written deep in messages of ours
    except (TypeError, ValueError):
        allowed = "an object that can be written as JSON in UTF-8, nested less than 250 deep"
        raise InvalidField("attributes", value, allowed) from None
    if size > MOST_ATTRIBUTES:
        raise InvalidField("attributes", f"{size} bytes", f"at most {MOST_ATTRIBUTES} bytes of JSON")
    return value
