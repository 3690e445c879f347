"""What may be written as an item, and what is read back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ray_app.catalog import item
from ray_app.errors import InvalidField
from ray_app.events.schema import item_to_dict
from tests.unit.make import NOW

GOOD: dict[str, Any] = {"item_id": "i", "title": "A title"}


def parse(**changed: Any) -> Any:
    return item.parse({**GOOD, **changed}, "t", NOW)


def test_what_is_left_out_has_a_default() -> None:
    made = parse()
    assert (made.type, made.status, made.version, made.published_at) == ("item", "available", NOW, 0)
    assert (made.price, made.tags, made.attributes, made.text, made.category) == (None, (), {}, "", "")


@pytest.mark.parametrize(
    ("changed", "field", "allowed"),
    [
        ({"item_id": None}, "item_id", "1 to 256 bytes"),
        ({"item_id": "x" * 257}, "item_id", "1 to 256 bytes"),
        ({"type": 3}, "type", "1 to 256 bytes"),
        ({"title": None}, "title", "a non-empty string of at most 1000"),
        ({"title": "  "}, "title", "a non-empty string of at most 1000"),
        ({"title": "t" * 1001}, "title", "a non-empty string of at most 1000"),
        ({"title": "\ud83d"}, "title", "UTF-8"),
        ({"text": 5}, "text", "a string of at most 100000"),
        ({"text": "x" * 100_001}, "text", "a string of at most 100000"),
        ({"category": "c" * 257}, "category", "a string of at most 256"),
        ({"tags": "red"}, "tags", "a list of at most 100 strings"),
        ({"tags": ["a"] * 101}, "tags", "a list of at most 100 strings"),
        ({"tags": [1]}, "tags", "a non-empty string"),
        ({"media": {"a": 1}}, "media", "a list of at most 100 strings"),
        ({"price": True}, "price", "a number from 0"),
        ({"price": math.nan}, "price", "a number from 0"),
        ({"price": math.inf}, "price", "a number from 0"),
        ({"price": 10**400}, "price", "a number from 0"),
        ({"price": -0.01}, "price", "a number from 0"),
        ({"price": "1.5"}, "price", "a number from 0"),
        ({"status": "gone"}, "status", "available, unavailable"),
        ({"status": ["available"]}, "status", "available, unavailable"),
        ({"version": -1}, "version", "0 to 2^53 - 1"),
        ({"version": 2**53}, "version", "0 to 2^53 - 1"),
        ({"version": True}, "version", "0 to 2^53 - 1"),
        ({"version": 1.0}, "version", "0 to 2^53 - 1"),
        ({"published_at": "soon"}, "published_at", "ISO 8601"),
        ({"published_at": "1900-01-01"}, "published_at", "from 1970"),
        ({"attributes": [1]}, "attributes", "an object"),
        ({"attributes": {1: 2}}, "attributes", "an object"),
        ({"attributes": {"a": "x" * 33_000}}, "attributes", "at most 32768 bytes"),
        ({"attributes": {"a": "\ud800"}}, "attributes", "JSON in UTF-8"),
        ({"colour": "red"}, "colour", "one of the fields item_id, type"),
        ({"row": 1}, "row", "one of the fields"),
    ],
)
def test_a_rejection_names_field_value_and_what_is_allowed(changed: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(**changed)
    assert refused.value.metadata["field"] == field
    assert allowed in refused.value.metadata["allowed"]
    assert refused.value.metadata["value"]


@pytest.mark.parametrize("title", ["Ünïcödé", "日本", "a" * 1000, "tab\tand\nline", "🙂"])
def test_titles_of_any_script_are_kept_as_they_are(title: str) -> None:
    assert parse(title=title).title == title


def test_a_client_reads_back_what_it_wrote_and_nothing_of_ours() -> None:
    wrote = {
        "item_id": "i", "type": "book", "title": "T", "text": "x", "category": "c", "tags": ["a"], "price": 2.0,
        "media": ["m"], "published_at": NOW - 1, "status": "unavailable", "attributes": {"k": [1, None]}, "version": 9,
    }  # fmt: skip
    stored = {**item_to_dict(parse(**wrote)), "row": 4}
    read = item.public(stored)
    assert {**read, "tags": list(read["tags"]), "media": list(read["media"])} == wrote
    assert parse(**wrote) == item.parse(read, "t", NOW + 5)  # what was read may be written again
