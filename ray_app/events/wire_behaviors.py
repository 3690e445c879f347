"""Behaviours of other producers, as our own API would have been told of them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import orjson
from msgspec.structs import replace

from ray_app.errors import InvalidField
from ray_app.events import wire
from ray_app.events.schema import is_number, parse_behavior
from ray_app.types import BEHAVIOR_TYPES, Behavior

WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "impression": ("impress", "impressed", "expose", "exposed", "exposure", "show", "shown", "display",
                       "displayed"),
        "click": ("clicked", "tap", "view", "viewed", "page_view", "detail_view", "open", "opened", "read", "visit"),
        "like": ("liked", "thumbs_up", "upvote", "praise"),
        "favourite": ("favorite", "favourited", "favorited", "fav", "collect", "collected", "bookmark", "wishlist",
                      "add_to_wishlist", "save", "saved", "star"),
        "share": ("shared", "forward", "forwarded", "repost"),
        "comment": ("commented", "reply", "review", "reviewed"),
        "cart": ("add_to_cart", "addtocart", "add_cart", "cart_add", "added_to_cart", "basket", "add_to_basket"),
        "purchase": ("purchased", "buy", "bought", "order", "ordered", "pay", "paid", "payment", "transaction",
                     "conversion"),
        "play": ("played", "watch", "watched", "video_play", "listen", "listened", "finish", "complete"),
        "dislike": ("disliked", "thumbs_down", "downvote", "not_interested", "uninterested"),
        "hide": ("hidden", "block", "blocked", "report", "reported"),
    }
)  # fmt: skip
TYPES: Mapping[str, str] = MappingProxyType(
    {t: t for t in BEHAVIOR_TYPES} | {w: t for t, words in WORDS.items() for w in words}
)
BEFORE = ("user_", "item_", "product_", "video_", "vlog_", "news_", "behavior_", "behaviour_", "event_")
AFTER = "_event"

EVENT_ID = ("event_id", "behavior_id", "behaviour_id", "message_id", "uuid", "id")
USER = ("user_id", "uid", "member_id", "customer_id")
SESSION = ("session_id", "anonymous_id", "device_id", "visitor_id", "client_id")
ITEM = ("item_id", "content_id", "product_id", "goods_id", "sku_id", "vlog_id", "news_id", "video_id", "target_id")
TYPE = ("type", "behavior_type", "behaviour_type", "event_type", "action_type", "action", "event_name", "event")
TIME = ("occurred_at", "timestamp", "event_time", "behavior_time", "action_time", "time", "ts", "created_at")
VALUE = ("value", "duration", "duration_s", "watch_time", "play_duration", "amount", "price")
VALUE_MS = ("duration_ms", "watch_time_ms", "play_duration_ms")
SCENARIO = ("scenario", "scenario_id", "scene", "scene_id")
REQUEST = ("request_id", "req_id", "recommend_id", "rec_id")
POSITION = ("position", "pos", "rank", "index")


def behavior(raw: object, appended_at: int) -> Behavior:
    """What a message says, by the rules of our API. Raises InvalidField.

    Without an event id one is made of what the behaviour is, so that a message that is sent again is the same event;
    that needs a time.
    """
    m = wire.read(raw)
    tenant, event_id, time = m.tenant(), m.first(EVENT_ID), m.first(TIME)
    if not isinstance(tenant, str):
        raise InvalidField("tenant_id", tenant, "the id of a tenant")
    if event_id is None and time is None:
        raise InvalidField("occurred_at", None, "a time where there is no event_id: a retry would be a second event")
    user = m.first(USER)
    asked = {
        "event_id": wire.as_id("none" if event_id is None else event_id),
        "user_id": wire.as_id(user),
        "session_id": None if user is not None else wire.as_id(m.first(SESSION)),
        "item_id": wire.as_id(m.first(ITEM)),
        "type": _type(m),
        "occurred_at": appended_at if time is None else wire.as_time("occurred_at", time),
        "value": _value(m),
        "scenario": wire.as_id(m.first(SCENARIO)),
        "request_id": wire.as_id(m.first(REQUEST)),
        "position": m.first(POSITION),
    }
    found = parse_behavior(asked, tenant, appended_at, history=True)
    return found if event_id is not None else replace(found, event_id=_content_id(found))


def _type(m: wire.Message) -> str:
    """The first that is one of ours or a known word for it: `type` may also be an item's, or say `behavior`."""
    said = [*m.all(TYPE)]
    for one in said:
        if isinstance(one, str) and (found := known_type(one)):
            return found
    allowed = f"{', '.join(BEHAVIOR_TYPES)}, or one of the other words that docs/events.md lists"
    raise InvalidField("type", said[0] if said else None, allowed)


def known_type(word: str) -> str | None:
    """Our type for a word: `item.clicked`, `ItemClicked` and `CLICK` are click."""
    if len(word) > 64:
        return None
    name = wire.snake(word).removesuffix(AFTER)
    parts = (name.removeprefix(b) for b in BEFORE if name.startswith(b))
    return next((TYPES[n] for n in (name, *parts) if n in TYPES), None)


def _value(m: wire.Message) -> Any:
    value = wire.as_number(m.first(VALUE))
    ms = wire.as_number(m.first(VALUE_MS))
    if value is not None or ms is None:
        return value
    return ms / 1000 if is_number(ms) else ms


def _content_id(b: Behavior) -> str:
    what = orjson.dumps([b.tenant, b.visitor, b.item_id, b.type, b.occurred_at])
    return f"content-{blake2b(what, digest_size=16).hexdigest()}"
