"""What may be sent as a behaviour, and what comes back from the log."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ray_app.errors import InvalidField
from ray_app.events import schema
from ray_app.types import BEHAVIOR_TYPES, Behavior, Degraded, Placed, Reason, Slate
from tests.unit.make import DAY_MS, NOW, behavior, item
from tests.written import read_behavior, read_item_event

GOOD: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "click", "occurred_at": NOW}
AGE = "400 days ago to 5 minutes ahead"
TIME = "ISO 8601 or milliseconds, from 1970 to 5138"
ID = "a string of 1 to 256 bytes"


def parse(history: bool = False, **changed: Any) -> Behavior:
    return schema.parse_behavior({**GOOD, **changed}, "t", NOW, history)


def test_the_least_that_is_needed() -> None:
    assert parse() == Behavior("e", "t", "i", "click", NOW, user_id="u")


@pytest.mark.parametrize(
    ("changed", "field", "allowed"),
    [
        ({"event_id": None}, "event_id", ID),
        ({"event_id": ""}, "event_id", ID),
        ({"event_id": 7}, "event_id", ID),
        ({"event_id": "a" * 257}, "event_id", ID),
        ({"event_id": "ü" * 129}, "event_id", ID),
        ({"event_id": "a\x00b"}, "event_id", "without control characters"),
        ({"event_id": "a\nb"}, "event_id", "without control characters"),
        ({"event_id": "\ud800"}, "event_id", "without control characters"),
        ({"item_id": ["i"]}, "item_id", ID),
        ({"item_id": "\u202e"}, "item_id", "without control characters"),
        ({"session_id": "s"}, "user_id", "exactly one of user_id and session_id"),
        ({"user_id": None}, "user_id", "exactly one of user_id and session_id"),
        ({"user_id": ""}, "user_id", ID),
        ({"type": "buy"}, "type", ", ".join(BEHAVIOR_TYPES)),
        ({"type": ["click"]}, "type", ", ".join(BEHAVIOR_TYPES)),
        ({"type": None}, "type", ", ".join(BEHAVIOR_TYPES)),
        ({"value": True}, "value", "a finite number"),
        ({"value": math.nan}, "value", "a finite number"),
        ({"value": -math.inf}, "value", "a finite number"),
        ({"value": 10**400}, "value", "a finite number"),
        ({"value": "1"}, "value", "a finite number"),
        ({"position": -1}, "position", "0..9999"),
        ({"position": 10_000}, "position", "0..9999"),
        ({"position": True}, "position", "0..9999"),
        ({"position": 1.0}, "position", "0..9999"),
        ({"scenario": 1}, "scenario", ID),
        ({"request_id": "x" * 257}, "request_id", ID),
        ({"colour": "red"}, "colour", "one of the fields event_id, user_id"),
        ({"occurred_at": None}, "occurred_at", TIME),
        ({"occurred_at": True}, "occurred_at", TIME),
        ({"occurred_at": 1.5}, "occurred_at", TIME),
        ({"occurred_at": -1}, "occurred_at", TIME),
        ({"occurred_at": 10**30}, "occurred_at", TIME),
        ({"occurred_at": "yesterday"}, "occurred_at", TIME),
        ({"occurred_at": "1969-12-31T23:59:59Z"}, "occurred_at", TIME),
        ({"occurred_at": "9999-12-31T23:59:59Z"}, "occurred_at", TIME),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at", TIME),
        ({"occurred_at": NOW + 300_001}, "occurred_at", AGE),
        ({"occurred_at": NOW - 400 * DAY_MS - 1}, "occurred_at", AGE),
        ({"occurred_at": 0}, "occurred_at", AGE),
    ],
)
def test_a_rejection_names_field_value_and_what_is_allowed(changed: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(**changed)
    assert refused.value.metadata["field"] == field
    assert allowed in refused.value.metadata["allowed"]
    wrong = str({**GOOD, **changed}[field]).encode(errors="backslashreplace").decode()
    assert refused.value.metadata["value"] in (wrong, wrong[:77] + "...")
    assert orjson.loads(orjson.dumps(refused.value.metadata))["field"] == field  # it can be sent


@pytest.mark.parametrize("raw", [None, 7, "text", [GOOD], True])
def test_what_is_no_object_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidField, match="an object with the fields"):
        schema.parse_behavior(raw, "t", NOW)


@pytest.mark.parametrize("id", ["a" * 256, "ü" * 128, "日本語", "a b/c?d#e'\"\\", "🙂"])
def test_ids_of_up_to_256_bytes_of_any_script_are_taken(id: str) -> None:
    assert parse(event_id=id, item_id=id, user_id=id).item_id == id


@pytest.mark.parametrize("at", [NOW + 300_000, NOW - 400 * DAY_MS])
def test_the_ends_of_the_age_limit_are_inside(at: int) -> None:
    assert parse(occurred_at=at).occurred_at == at


def test_history_lifts_the_age_limit_and_not_the_future() -> None:
    assert parse(history=True, occurred_at="1999-01-01").occurred_at == 915_148_800_000
    with pytest.raises(InvalidField, match="occurred_at"):
        parse(history=True, occurred_at=NOW + 300_001)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045_000),
        ("2026-01-02T03:04:05", 1_767_323_045_000),
        ("2026-01-02T05:04:05.123+02:00", 1_767_323_045_123),
        ("2026-01-02", 1_767_312_000_000),
    ],
)
def test_a_time_may_be_iso_8601_and_without_a_zone_it_is_utc(text: str, ms: int) -> None:
    assert schema.parse_time("occurred_at", text) == ms


@given(st.datetimes(datetime(1970, 1, 1), datetime(5000, 1, 1)))
def test_a_time_in_text_and_in_milliseconds_is_the_same(at: datetime) -> None:
    whole = at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
    ms = schema.parse_time("f", whole.isoformat())
    assert schema.parse_time("f", ms) == ms
    assert abs(whole.timestamp() * 1000 - ms) <= 1


@given(
    st.fixed_dictionaries(
        {
            k: st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40)
            for k in ("event_id", "item_id")
        }
        | {"type": st.sampled_from(BEHAVIOR_TYPES), "occurred_at": st.integers(NOW - 400 * DAY_MS, NOW + 300_000)},
        optional={
            "value": st.floats(allow_nan=False, allow_infinity=False),
            "position": st.integers(0, 9999),
            "scenario": st.just("home"),
            "request_id": st.just("r.home.1"),
        },
    )
)
def test_a_behaviour_comes_back_from_the_log_as_it_was_accepted(raw: dict[str, Any]) -> None:
    accepted = schema.parse_behavior({**raw, "session_id": "s"}, "t", NOW)
    entry = schema.behavior_entry(accepted)
    assert read_behavior(entry.body) == accepted
    assert entry.key == "t/s:s"


def test_behaviours_of_one_visitor_share_a_key_and_a_session_is_no_user() -> None:
    first, second = behavior("e1", "i"), behavior("e2", "j", type="click")
    session = structs.replace(first, user_id=None, session_id="1")
    assert schema.behavior_entry(first).key == schema.behavior_entry(second).key
    assert schema.behavior_entry(session).key != schema.behavior_entry(first).key


def test_an_item_comes_back_from_the_log_as_it_was() -> None:
    one = item("i", 3, tags=("a", "b"), media=("m",), price=1.5, attributes={"colour": ["red"]}, published_at=NOW)
    assert read_item_event(schema.item_entry(one).body) == one
    assert read_item_event(schema.delete_entry("t", "i", 4).body) == schema.Deleted("t", "i", 4)
    assert schema.item_entry(one).key == schema.delete_entry("t", "i", 4).key


def test_a_slate_comes_back_from_the_log_as_it_was() -> None:
    placed = Placed("i", 0.5, ("hot", "new"), Reason("POPULAR", "Popular"), (1.0, 2.0))
    drawn = replace(placed, item_id="j", propensity=0.25)
    slate = Slate(
        "r", "t", "home", "u:1", NOW, (placed, drawn), (Degraded("rank", "late"),), {"a": "b"}, {"ranker": "1"}
    )
    assert schema.read_slate(schema.slate_entry(slate).body) == slate


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"event_id": "e"}', b"null", b'{"change": "upsert"}'])
def test_a_body_that_is_no_slate_raises_what_a_flow_expects(body: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        schema.read_slate(body)
