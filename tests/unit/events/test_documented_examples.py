"""Every example of the documents is read as they say, and their tables are the ones of the code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import structs

from ray_app.config import Events
from ray_app.errors import LemoError
from ray_app.events import wire, wire_behaviors, wire_items
from ray_app.events.base import Logged
from ray_app.flows.item_events import Patch, Reader, fold
from ray_app.flows.read import behavior, reason
from ray_app.neural.event import read_entry
from ray_app.types import Behavior

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "events.md").read_text()
APPENDED_AT = 1_772_366_400_000
FENCE = re.compile(r"^ *```json ([\w-]+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FENCES = [f for name in ("events.md", "items.md", "tracking.md") for f in FENCE.findall((DOCS / name).read_text())]
READ = [(topic, body, FENCES[k + 1 : k + 2]) for k, (topic, body) in enumerate(FENCES) if topic != "becomes"]
LETTERS = re.findall(r"^\| `([{\[].*)` \| `([\w-]+)` \| `(.*)` \|$", TEXT, re.MULTILINE)


def read(topic: str, body: str) -> Any:
    """Raises what makes it a dead letter."""
    entry = Logged(topic, 0, 0, APPENDED_AT, "", body.encode())
    if topic == "behavior-events":
        return behavior(entry)
    if topic == "neural-events":
        return read_entry(entry)
    event = Reader(Events()).read(entry)
    if isinstance(event, Patch) and "update" in body and "new" in body:
        for _, why in fold(None, [(entry, event)]).lost:
            raise why
    return event


@pytest.mark.parametrize(("topic", "body", "after"), READ)
def test_an_example_is_read_as_the_document_says(topic: str, body: str, after: list[tuple[str, str]]) -> None:
    found = read(topic, body)
    if after and after[0][0] == "becomes":
        fields = structs.asdict(found) if isinstance(found, Behavior) else asdict(found)
        wanted, shown = orjson.loads(after[0][1]), orjson.loads(orjson.dumps(fields))
        if isinstance(found, Patch):
            del shown["whole"]
        unsaid: tuple[Any, ...] = (None, "", [], {}, 0, "available")
        assert {k: v for k, v in shown.items() if k in wanted or v not in unsaid} == wanted


@pytest.mark.parametrize(("body", "topic", "why"), LETTERS)
def test_a_dead_letter_has_the_reason_that_the_document_says(body: str, topic: str, why: str) -> None:
    with pytest.raises((LemoError, ValueError)) as refused:
        read(topic, body)
    assert why in reason(refused.value)


def test_there_are_examples() -> None:
    assert len(READ) > 12
    assert len(LETTERS) > 10


def rows(first: str) -> dict[str, tuple[str, ...]]:
    """The table whose header begins so: the words of the second cell by the first."""
    table = TEXT.split(f"| {first} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[c.strip() for c in line.strip("| ").split(" | ")] for line in table]
    return {c[0].strip("`"): tuple(re.findall(r"`([\w]+)`", c[1])) for c in cells}


@pytest.mark.parametrize(("first", "words"), [("event", wire_items.WORDS), ("type", wire_behaviors.WORDS)])
def test_the_words_are_those_of_the_document(first: str, words: Mapping[str, tuple[str, ...]]) -> None:
    assert rows(first) == dict(words)


def test_the_names_of_an_items_fields_are_those_of_the_document() -> None:
    own = {
        "tenant": wire.TENANT, "item_id": (*wire_items.ITEM, "id"), "version": wire_items.VERSION,
        "updated_at": wire_items.UPDATED,
    }  # fmt: skip
    assert rows("field of an item") == {**wire_items.FIELDS, **own}


def test_the_names_of_a_behaviours_fields_are_those_of_the_document() -> None:
    w = wire_behaviors
    assert rows("field of a behaviour") == {
        "tenant": wire.TENANT, "event_id": w.EVENT_ID, "user_id": w.USER, "session_id": w.SESSION, "item_id": w.ITEM,
        "type": w.TYPE, "occurred_at": w.TIME, "value": w.VALUE + w.VALUE_MS, "scenario": w.SCENARIO,
        "request_id": w.REQUEST, "position": w.POSITION,
    }  # fmt: skip
