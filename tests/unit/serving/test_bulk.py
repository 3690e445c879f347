"""Bulk writes: each element on its own, and nothing is acknowledged that is not in the log."""

from __future__ import annotations

from typing import Any

import pytest

from ray_app.clock import FixedClock
from ray_app.errors import InvalidField, Unavailable
from ray_app.events.memory import MemoryLog
from ray_app.events.schema import behavior_entry, parse_behavior
from ray_app.serving.bulk import MOST, AllRejected, append, sort
from ray_app.types import Behavior
from tests.unit.make import NOW, behavior

GOOD: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "click", "occurred_at": NOW}


def parse(raw: Any) -> Behavior:
    return parse_behavior(raw, "t", NOW)


def test_each_element_is_accepted_or_rejected_on_its_own_by_index() -> None:
    elements = [GOOD, {**GOOD, "type": "buy"}, None, "text", {**GOOD, "event_id": "f"}, 7, [GOOD]]
    found = sort("behaviors", elements, parse)
    assert [b.event_id for b in found.accepted] == ["e", "f"]
    answer = found.answer()
    assert answer["accepted"] == 2
    assert [r["index"] for r in answer["rejected"]] == [1, 2, 3, 5, 6]
    assert answer["rejected"][0]["reason"] == "INVALID_FIELD"
    assert answer["rejected"][0]["metadata"]["field"] == "type"
    assert set(answer["rejected"][0]) == {"index", "reason", "message", "metadata"}


def test_when_nothing_was_accepted_the_answer_is_an_error_that_tells_all() -> None:
    with pytest.raises(AllRejected, match="none of 2 elements was accepted; the first: type is 'buy'") as refused:
        sort("behaviors", [{**GOOD, "type": "buy"}, {}], parse).answer()
    assert [r["index"] for r in refused.value.answer["rejected"]] == [0, 1]
    assert (refused.value.status, refused.value.metadata["field"]) == (400, "type")


@pytest.mark.parametrize("elements", [None, [], {}, "text", 7, {"a": 1}, [GOOD] * (MOST + 1)])
def test_what_is_no_list_of_one_to_a_thousand_is_refused_whole(elements: Any) -> None:
    with pytest.raises(InvalidField, match="a list of 1 to 1000 elements") as refused:
        sort("behaviors", elements, parse)
    assert refused.value.metadata["field"] == "behaviors"


def test_a_thousand_are_taken() -> None:
    assert len(sort("behaviors", [GOOD] * MOST, parse).accepted) == MOST


async def test_nothing_is_acknowledged_while_the_log_is_away(clock: FixedClock) -> None:
    log, entries = MemoryLog(4, clock), [behavior_entry(behavior("e", "i"))]
    log.away = True
    with pytest.raises(Unavailable):
        await append(log, "t", entries)
    assert await append(log, "t", []) == []  # nothing to write needs no log
    log.away = False
    (at,) = await append(log, "t", entries)
    assert at.position == 0
