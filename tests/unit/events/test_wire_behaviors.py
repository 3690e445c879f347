"""Behaviours of other producers: any common form is read, and anything else is refused with a reason."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.errors import InvalidField
from ray_app.events import schema, wire, wire_behaviors
from ray_app.events.base import Logged
from ray_app.events.schema import behavior_entry
from ray_app.flows.read import behavior
from ray_app.types import BEHAVIOR_TYPES, Behavior
from tests.unit.make import DAY_MS, NOW

OLD = {"tenantId": "t", "userId": "u", "itemId": "i", "behaviorType": "click", "timestamp": NOW}


def logged(raw: Any, at: int = NOW) -> Logged:
    body = raw if isinstance(raw, bytes) else orjson.dumps(raw)
    return Logged("behavior-events", 0, 0, at, "", body)


def read(raw: Any = None, **changed: Any) -> Behavior:
    found = behavior(logged({**OLD, **changed} if raw is None else raw))
    assert found is not None
    return found


def test_flat_camel_case_is_read_and_gets_an_id_of_what_it_is() -> None:
    found = read()
    assert found == Behavior(found.event_id, "t", "i", "click", NOW, user_id="u")
    assert found.event_id.startswith("content-")
    assert read() == found


@pytest.mark.parametrize("changed", [
    {"tenantId": "t2"}, {"userId": "u2"}, {"itemId": "i2"}, {"behaviorType": "like"}, {"timestamp": NOW - 1},
    {"userId": None, "sessionId": "u"},
])  # fmt: skip
def test_whatever_makes_it_another_behaviour_makes_it_another_id(changed: dict[str, Any]) -> None:
    assert read(**changed).event_id != read().event_id


def test_a_retry_in_another_form_has_the_same_id() -> None:
    snake = {"tenant_id": "t", "data": {"user_id": "u", "item_id": "i", "type": "view", "time": NOW / 1000}}
    assert read(snake).event_id == read().event_id


@pytest.mark.parametrize("raw", [
    {"event_type": "click", "tenant_id": "t", "data": {"user_id": "u", "item_id": "i", "occurred_at": NOW}},
    {"event_type": "user_behavior", "tenant_id": "t",
     "data": {"userId": "u", "itemId": "i", "action": "click", "ts": NOW}},
    {"type": "item.clicked", "tenantId": "t", "timestamp": NOW, "payload": {"uid": "u", "productId": "i"}},
    {"event_type": "behavior", "tenant_id": "t",
     "data": {"tenant_id": "t", "user_id": "u", "item_id": "i", "event_type": "CLICK", "occurred_at": NOW}},
    {"tenant_id": "t", "type": "vlog", "action": "ItemClicked", "user_id": "u", "vlog_id": "i", "created_at": NOW},
    {"TENANT_ID": "t", "USER-ID": "u", "Item.Id": "i", "eventType": "item_click_event", "eventTime": NOW},
])  # fmt: skip
def test_envelope_and_flat_in_any_spelling_say_the_same(raw: dict[str, Any]) -> None:
    assert read(raw) == read()


@pytest.mark.parametrize("time", [
    NOW, NOW // 1000, NOW / 1000, str(NOW), str(NOW // 1000), NOW * 1000, "2027-01-15T08:00:00Z",
    "2027-01-15 08:00:00", "2027-01-15T16:00:00+08:00",
])  # fmt: skip
def test_a_time_may_have_any_common_form(time: Any) -> None:
    assert read(timestamp=time).occurred_at == NOW


def test_everything_that_a_behaviour_may_say_is_read() -> None:
    found = read(eventId=17, scene="home", requestId="r", pos=3, duration="12.5", platform="ios", extra={"a": 1})
    assert found == Behavior("17", "t", "i", "click", NOW, "u", None, 12.5, "home", "r", 3)
    assert read(durationMs=1500).value == 1.5


def test_a_user_counts_before_a_session() -> None:
    assert read(sessionId="s").session_id is None
    assert read(userId=None, deviceId=42).session_id == "42"


def test_without_a_time_the_log_tells_it_and_then_an_id_is_needed() -> None:
    assert read(timestamp=None, eventId="e").occurred_at == NOW
    with pytest.raises(InvalidField, match="a time where there is no event_id"):
        read(timestamp=None)


@pytest.mark.parametrize(("word", "type"), [(w, t) for t, words in wire_behaviors.WORDS.items() for w in words])
def test_every_known_word_is_read(word: str, type: str) -> None:
    assert read(behaviorType=word).type == type
    assert word not in BEHAVIOR_TYPES


@pytest.mark.parametrize(("changed", "field"), [
    ({"tenantId": None}, "tenant_id"), ({"tenantId": "A"}, "tenant_id"), ({"tenantId": "system"}, "tenant_id"),
    ({"tenantId": ["t"]}, "tenant_id"), ({"tenant": "t2"}, "tenant_id"),
    ({"data": {"tenant_id": "t2"}}, "tenant_id"),
    ({"userId": None}, "user_id"), ({"userId": "a\n"}, "user_id"), ({"itemId": "a" * 257}, "item_id"),
    ({"itemId": 1.5}, "item_id"), ({"itemId": True}, "item_id"), ({"behaviorType": "wave"}, "type"),
    ({"behaviorType": None}, "type"), ({"behaviorType": "x" * 1000}, "type"),
    ({"timestamp": "yesterday"}, "occurred_at"), ({"timestamp": -1}, "occurred_at"),
    ({"timestamp": 10**18}, "occurred_at"), ({"timestamp": True}, "occurred_at"),
    ({"timestamp": NOW + 300_001}, "occurred_at"), ({"timestamp": "1969-12-31"}, "occurred_at"),
    ({"value": "much"}, "value"), ({"position": 10_000}, "position"), ({"eventId": ""}, "event_id"),
])  # fmt: skip
def test_what_our_api_would_refuse_is_refused_with_its_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(**changed)
    assert refused.value.field == field
    assert refused.value.allowed


def test_a_behaviour_may_be_as_old_as_an_import_of_history() -> None:
    assert read(timestamp=NOW - 5000 * DAY_MS).occurred_at == NOW - 5000 * DAY_MS


@pytest.mark.parametrize("raw", [[], [OLD], "click", 7, None, {}])
def test_what_is_no_object_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidField):
        behavior(logged(raw))


OURS = {
    "event_id": "e", "tenant": "t", "item_id": "i", "type": "click", "occurred_at": NOW, "user_id": "u",
    "value": 1.5, "scenario": "home", "request_id": "r", "position": 0,
}  # fmt: skip
ODD: list[Any] = [
    "", "a\n", "\x7f", "\u202e", "\\", "日本語", "ü" * 128, "ü" * 129, "a" * 256, "a" * 257, 0, -1, 10**13, 2**60, 1.5,
    1e300, True, [], {}, None,
]  # fmt: skip


@given(st.dictionaries(st.sampled_from([*OURS, "session_id", "x"]), st.sampled_from(ODD), max_size=3), st.booleans())
def test_the_short_way_takes_only_what_the_long_way_takes_and_reads_it_alike(
    changed: dict[str, Any], cautious: bool
) -> None:
    body = orjson.dumps({**OURS, **changed})
    found = schema.plain(body, NOW, schema.is_clean(body) and not cautious)
    if found:
        raw = orjson.loads(body)
        assert schema.is_ours(raw)
        assert found == schema.behavior_of(raw, NOW)


@given(
    st.dictionaries(st.sampled_from(["event_id", "scenario"]), st.sampled_from(["ü", "日本語", 'a"b\\c', "\u00a0x"]))
)
def test_what_is_not_clean_is_looked_at_and_an_id_of_any_script_takes_the_short_way(changed: dict[str, Any]) -> None:
    body = orjson.dumps({**OURS, **changed})
    found, taken = schema.plain(body, NOW), all(v.isprintable() for v in changed.values())
    assert (found is not None) is taken


@pytest.mark.parametrize("body", [
    b'{"event_id":"\\ud800"}', b'\xef\xbb\xbf{}', b"", b"{", b"{}{}", b'"text"', b"[" * 100_000,
    b'{"user_id":' * 100_000, b'{"event_id":"\xff"}', b'{"occurred_at":1e400}',
])  # fmt: skip
def test_broken_json_is_refused_by_both_ways(body: bytes) -> None:
    assert schema.plain(body, NOW) is None
    with pytest.raises((ValueError, InvalidField)):
        behavior(logged(body))


@pytest.mark.parametrize("raw", [b"\x00", b"\x0a", b"\x1f", b"\x7f", b"\\n"])
def test_a_control_character_is_refused_raw_and_escaped_wherever_the_batch_is_looked_at(raw: bytes) -> None:
    body = orjson.dumps(OURS).replace(b'"home"', b'"ho' + raw + b'me"')
    assert schema.plain(body, NOW, schema.is_clean(body)) is None


def test_our_own_form_takes_the_short_way() -> None:
    one = Behavior("e", "t", "i", "click", NOW, session_id="s", value=1.0, scenario="home")
    body = behavior_entry(one).body
    assert schema.is_clean(body)
    assert schema.plain(body, NOW) == schema.plain(body, NOW, clean=True) == one
    assert read(orjson.loads(body)) == one


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = ("tenant", "tenantId", "event_id", "user_id", "sessionId", "itemId", "type", "eventType", "timestamp", "data",
         "occurred_at", "value", "position", "payload", "duration_ms", "change", "item", "version", "title",
         "updatedAt", "status", "tags", "attributes", "price", "published_at")  # fmt: skip
GOOD = st.sampled_from(["t", "click", "create", "u", NOW, 1, "1", {"item_id": "i", "title": "x"}])
messages = json | st.dictionaries(st.sampled_from(NAMES), GOOD | json, max_size=12)


@given(messages | st.binary(max_size=60))
def test_any_message_is_read_or_refused_and_nothing_else_happens(raw: Any) -> None:
    try:
        found = behavior(logged(raw))
    except (InvalidField, ValueError):  # a dead letter
        return
    assert found is not None
    assert schema.parse_behavior(
        {k: v for k in schema.FIELDS if (v := getattr(found, k)) is not None}, found.tenant, NOW, history=True
    )


@pytest.mark.parametrize("name", ["itemId", "ItemID", "item-id", "item.id", "ITEM_ID", "item_id", " item id "])
def test_names_of_fields_are_read_in_any_spelling(name: str) -> None:
    assert wire.snake(name) == "item_id"
