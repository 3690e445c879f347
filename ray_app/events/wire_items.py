"""Item changes of other producers, as our own API would have been told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ray_app.errors import InvalidField
from ray_app.events import wire

Kind = Literal["upsert", "update", "delete"]
WORDS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "upsert": ("create", "created", "add", "added", "new", "insert", "inserted", "upsert", "upserted", "save",
                   "saved", "put", "replace", "replaced", "publish", "published", "sync", "synced", "import"),
        "update": ("update", "updated", "modify", "modified", "change", "changed", "edit", "edited", "patch",
                   "patched"),
        "delete": ("delete", "deleted", "remove", "removed"),
    }
)  # fmt: skip
KINDS: Mapping[str, Kind] = MappingProxyType({w: kind for kind, words in WORDS.items() for w in words})
BEFORE = ("item_", "items_", "product_", "goods_", "content_", "vlog_", "news_", "video_")
AFTER = "_event"

EVENT = ("event_type", "action", "op", "operation", "event_name", "event", "change")
ITEM = ("item_id", "content_id", "product_id", "goods_id", "sku_id", "vlog_id", "news_id", "video_id")
VERSION = ("version", "item_version")
UPDATED = ("updated_at", "update_time", "updated_time", "modified_at", "last_modified")
FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "type": ("type", "item_type", "content_type"),
        "title": ("title", "name", "headline"),
        "text": ("text", "content", "description", "summary"),
        "category": ("category", "category_name", "category_id"),
        "tags": ("tags", "keywords", "labels"),
        "price": ("price",),
        "media": ("media", "images", "image_urls", "image", "image_url", "cover", "cover_url", "video_url"),
        "published_at": ("published_at", "publish_time", "published_time", "created_at", "create_time"),
        "status": ("status", "state", "available", "is_available"),
        "attributes": ("attributes", "attrs", "properties", "extra"),
    }
)  # fmt: skip
STATUS: Mapping[object, str] = MappingProxyType(
    dict.fromkeys(("available", "active", "online", "on_sale", "published", "enabled", "normal", True, 1), "available")
    | dict.fromkeys(
        ("unavailable", "inactive", "offline", "off_sale", "unpublished", "disabled", "sold_out", "draft", False, 0),
        "unavailable",
    )
)
OURS = (*wire.TENANT, *EVENT, *ITEM, "id", *VERSION, *UPDATED, *(n for names in FIELDS.values() for n in names))
OF_THE_MESSAGE = ("event_id", "message_id", "trace_id", "timestamp", "event_time", "source", "event_source", "row")


@dataclass(frozen=True, slots=True)
class Change:
    """`fields`: what the message says, by the names and in the forms of our API, unchecked. Without a `version` the
    time `updated_at` (ms) orders the changes, and without both the log."""

    kind: Kind
    tenant: Any
    item_id: Any
    fields: Mapping[str, Any]
    version: Any = None
    updated_at: int | None = None


def change(raw: object) -> Change:
    """Raises InvalidField for what is no change of an item."""
    m = wire.read(raw, (*wire.PAYLOADS, "item"))
    kind = _kind(m)
    item_id = wire.as_id(m.first((*ITEM, "id"), outer=ITEM))
    fields = {} if kind == "delete" else _fields(m.inner)
    updated = m.first(UPDATED)
    at = None if updated is None else wire.as_time("updated_at", updated)
    return Change(kind, m.tenant(), item_id, fields, _version(m), at)


def _kind(m: wire.Message) -> Kind:
    """Of the envelope, where there is one: words of the payload may be the item's. What says nothing is an upsert."""
    names = (*EVENT, "type") if m.enveloped else EVENT
    said = [v for n in names if (v := (m.outer if m.enveloped else m.inner).get(n)) is not None]
    for one in said:
        if isinstance(one, str) and (found := known_kind(one)):
            return found
    if not said:
        return "upsert"
    raise InvalidField("event_type", said[0], "create, update, delete, or one of the other words of docs/events.md")


def known_kind(word: str) -> Kind | None:
    """`item.created`, `ITEM_CREATED`, `itemCreated` and `create` are upsert."""
    if len(word) > 64:
        return None
    name = wire.snake(word).removesuffix(AFTER)
    parts = (name.removeprefix(b) for b in BEFORE if name.startswith(b))
    return next((KINDS[n] for n in (name, *parts) if n in KINDS), None)


def _version(m: wire.Message) -> Any:
    """A version of the envelope counts when it is a whole number; else it is that of the envelope's own form."""
    inner = _first(m.inner, VERSION)
    version = inner if inner is not None else next((v for v in m.all((), VERSION) if _is_whole(v)), None)
    return int(version) if isinstance(version, str) and _is_whole(version) else version


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) < 19
    return isinstance(value, int) and not isinstance(value, bool)


def _fields(said: Mapping[str, Any]) -> dict[str, Any]:
    found = {field: v for field, names in FIELDS.items() if (v := _first(said, names)) is not None}
    for field, change in (
        ("type", wire.as_id), ("category", wire.as_id), ("tags", _list), ("media", _list),
        ("price", wire.as_number), ("status", _status), ("published_at", _published),
    ):  # fmt: skip
        if field in found:
            found[field] = change(found[field])
    more = {k: v for k, v in said.items() if k not in OURS and k not in OF_THE_MESSAGE}
    attributes = found.get("attributes", {})
    if more and isinstance(attributes, Mapping):
        found["attributes"] = {**more, **attributes}
    return found


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((said[n] for n in names if said.get(n) is not None), None)


def _list(value: Any) -> Any:
    """Also one text, its parts between commas."""
    return [part for p in value.split(",") if (part := p.strip())] if isinstance(value, str) else value


def _status(value: Any) -> Any:
    known = value.strip().lower().replace("-", "_") if isinstance(value, str) else value
    return STATUS.get(known, value) if isinstance(known, str | int) else value


def _published(value: Any) -> int:
    return wire.as_time("published_at", value)
