"""Behaviour, item and slate events: what a client may send, and how each is written to the log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

import msgspec
import numpy as np
import orjson

from ray_app.errors import InvalidField
from ray_app.events.base import Entry
from ray_app.types import BEHAVIOR_TYPES, DAY_MS, Behavior, Degraded, Item, Placed, Reason, Slate

OLDEST_MS, AHEAD_MS = 400 * DAY_MS, 300_000
LATEST_MS = 10**14
FIELDS = (
    "event_id", "user_id", "session_id", "item_id", "type", "value", "scenario", "request_id", "position",
    "occurred_at",
)  # fmt: skip
OURS, TYPES = frozenset(Behavior.__struct_fields__), frozenset(BEHAVIOR_TYPES)
ID = "a string of 1 to 256 bytes"


@dataclass(frozen=True, slots=True)
class Deleted:
    """An item that was taken away, as of `version`."""

    tenant: str
    id: str
    version: int


def parse_id(field: str, value: object) -> str:
    """A non-empty string of at most 256 bytes of UTF-8 without control characters."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InvalidField(field, value, f"{ID} without control characters")
    if len(value.encode("utf-8", "surrogatepass")) > 256:
        raise InvalidField(field, value, ID)
    return value


def parse_time(field: str, value: object) -> int:
    """Milliseconds since 1970 UTC from an integer or an ISO 8601 string; a string without a zone is UTC."""
    at = _iso(value) if isinstance(value, str) else value
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < LATEST_MS:
        raise InvalidField(field, value, "ISO 8601 or milliseconds, from 1970 to 5138")
    return at


def _iso(value: str) -> int | None:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is one that a float can hold; a bool is none, and neither are NaN, infinity and 10**400."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def parse_behavior(raw: Mapping[str, Any], tenant: str, now: int, history: bool = False) -> Behavior:
    """Raises InvalidField for the first field that is not allowed; `history` lifts the age limit."""
    refuse_unknown(raw, FIELDS)
    user, session = raw.get("user_id"), raw.get("session_id")
    if (user is None) == (session is None):
        raise InvalidField("user_id", user, "exactly one of user_id and session_id")
    if raw.get("type") not in BEHAVIOR_TYPES:
        raise InvalidField("type", raw.get("type"), ", ".join(BEHAVIOR_TYPES))
    at = parse_time("occurred_at", raw.get("occurred_at"))
    if at > now + AHEAD_MS or (at < now - OLDEST_MS and not history):
        oldest = "1970" if history else "400 days ago"
        raise InvalidField("occurred_at", raw.get("occurred_at"), f"{oldest} to 5 minutes ahead")
    return Behavior(
        event_id=parse_id("event_id", raw.get("event_id")),
        tenant=tenant,
        item_id=parse_id("item_id", raw.get("item_id")),
        type=raw["type"],
        occurred_at=at,
        user_id=None if user is None else parse_id("user_id", user),
        session_id=None if session is None else parse_id("session_id", session),
        value=_number(raw.get("value")),
        scenario=_optional_id(raw, "scenario"),
        request_id=_optional_id(raw, "request_id"),
        position=_position(raw.get("position")),
    )


def refuse_unknown(raw: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Raises InvalidField for a key that is not one of `fields`, or for a value that is no object at all."""
    if not isinstance(raw, Mapping):
        raise InvalidField("element", raw, "an object with the fields " + ", ".join(fields))
    for key in raw:
        if key not in fields:
            raise InvalidField(str(key), raw[key], "one of the fields " + ", ".join(fields))


def _optional_id(raw: Mapping[str, Any], field: str) -> str | None:
    return None if raw.get(field) is None else parse_id(field, raw[field])


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not is_number(value):
        raise InvalidField("value", value, "a finite number")
    return float(value)


def _position(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10_000:
        raise InvalidField("position", value, "0..9999")
    return value


def behavior_entry(b: Behavior) -> Entry:
    """One visitor's behaviours keep their order."""
    body = {k: v for k, v in msgspec.structs.asdict(b).items() if v is not None}
    return Entry(f"{b.tenant}/{b.visitor}", orjson.dumps(body))


def is_ours(raw: object) -> bool:
    """Whether a message that was read from JSON has the form in which we append behaviours."""
    return isinstance(raw, dict) and "tenant" in raw and raw.keys() <= OURS


def behavior_of(raw: dict[str, Any], now: int) -> Behavior:
    """A message of our form, appended at `now`, by the rules of `parse_behavior` for history. Raises InvalidField."""
    asked = {k: v for k, v in raw.items() if k != "tenant"}
    return parse_behavior(asked, raw["tenant"], now, history=True)


def plain(body: bytes, now: int, clean: bool = False) -> Behavior | None:
    """The behaviour of a message in our form that `behavior_of` surely takes, as nearly all are, at a fifth of the
    cost: what the type itself limits is checked as it is made. None for any other, good or bad. `clean`: the body was
    found to be so."""
    try:
        b = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    user, session = b.user_id, b.session_id
    taken = (
        b.occurred_at <= now + AHEAD_MS
        and b.type in TYPES
        and (user is None) is not (session is None)
        and (clean or _are_ids(b.event_id, b.item_id, user or session, b.scenario or "-", b.request_id or "-"))
    )
    return b if taken else None


_decode = msgspec.json.Decoder(Behavior).decode


def is_clean(bodies: bytes) -> bool:
    """Whether no text of these JSON messages, taken together, has anything that cannot be printed, or takes more bytes
    than characters: nothing is escaped, and JSON itself refuses raw control characters but this one."""
    return bodies.isascii() and b"\\" not in bodies and b"\x7f" not in bodies


def _are_ids(*values: Any) -> bool:
    """Whether `parse_id` takes each of some short texts."""
    whole = "".join(values)
    return whole.isprintable() and (whole.isascii() or all(len(v.encode()) <= 256 for v in values))


def item_to_dict(item: Item) -> dict[str, Any]:
    return {k: getattr(item, k) for k in Item.__slots__}


def item_from_dict(d: Mapping[str, Any]) -> Item:
    fields = {k: d[k] for k in Item.__slots__ if k in d}
    fields["tags"], fields["media"] = tuple(fields.get("tags", ())), tuple(fields.get("media", ()))
    return Item(**fields)


def item_entry(item: Item) -> Entry:
    """One item's changes keep their order."""
    return Entry(f"{item.tenant}/{item.id}", orjson.dumps({"change": "upsert", "item": item_to_dict(item)}))


def delete_entry(tenant: str, item_id: str, version: int) -> Entry:
    body = {"change": "delete", "tenant": tenant, "id": item_id, "version": version}
    return Entry(f"{tenant}/{item_id}", orjson.dumps(body))


def slate_entry(slate: Slate) -> Entry:
    """orjson reads dataclasses itself, at a fifteenth of what `asdict` costs. Features were float32: written as such
    they are half as long, and the same when they are read into float32 again."""
    body = {k: getattr(slate, k) for k in Slate.__slots__}
    body["items"] = [_placed(i) for i in slate.items]
    return Entry(f"{slate.tenant}/{slate.visitor}", orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def _placed(i: Placed) -> dict[str, Any]:
    features = np.asarray(i.features, np.float32)
    body = {"item_id": i.item_id, "score": i.score, "channels": i.channels, "reason": i.reason, "features": features}
    body |= {} if i.shadow is None else {"shadow": i.shadow}
    return body if i.propensity == 1.0 else {**body, "propensity": i.propensity}


def read_slate(body: bytes) -> Slate:
    """Raises ValueError, TypeError or KeyError for a body that is not ours."""
    d = orjson.loads(body)
    d["items"] = tuple(_read_placed(i) for i in d["items"])
    d["degraded"] = tuple(Degraded(**x) for x in d["degraded"])
    return Slate(**d)


def _read_placed(i: Mapping[str, Any]) -> Placed:
    why, said = Reason(**i["reason"]), i.get("propensity", 1.0)
    return Placed(i["item_id"], i["score"], tuple(i["channels"]), why, tuple(i["features"]), i.get("shadow"), said)
