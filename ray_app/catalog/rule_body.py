"""A rule as a client writes it: whole, each field checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_app.catalog import filter as filters
from ray_app.catalog.fields import parse_number, parse_whole
from ray_app.catalog.reranking import parse_most, parse_window
from ray_app.catalog.rule import ACTIONS, OF, Rule
from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id, parse_time, refuse_unknown

FIELDS = ("action", "items", "title", "scenarios", "since", "until", "priority")
MOST_FILTERS, MOST_SCENARIOS, MOST_PRIORITY, MOST_POSITION, MOST_COUNT = 20, 100, 1_000_000, 199, 200


def parse(id: str, raw: Mapping[str, Any], scenarios: Sequence[str]) -> Rule:
    """`scenarios`: those of the tenant. Raises InvalidField for the first field that is not allowed."""
    action = raw.get("action")
    if action not in ACTIONS:
        raise InvalidField("action", action, ", ".join(ACTIONS))
    refuse_unknown(raw, (*FIELDS, *OF[action]))
    since, until = _time("since", raw.get("since")), _time("until", raw.get("until"))
    if until and until <= since:
        raise InvalidField("until", raw["until"], "a time after since, or 0 for no end")
    title = raw.get("title")
    found: dict[str, Any] = {name: _PARTS[name](name, raw[name]) for name in OF[action] if name in raw}
    return Rule(
        parse_id("rule", id),
        action,
        tuple(filters.parse(f"items[{i}]", f) for i, f in enumerate(_list("items", raw.get("items"), MOST_FILTERS, 1))),
        "" if title in (None, "") else parse_id("title", title),
        tuple(_known(s, scenarios) for s in _list("scenarios", raw.get("scenarios", ()), MOST_SCENARIOS)),
        since,
        until,
        parse_whole("priority", raw.get("priority", 0), -MOST_PRIORITY, MOST_PRIORITY),
        **found,
    )


def _known(id: object, scenarios: Sequence[str]) -> str:
    if id not in scenarios:
        raise InvalidField("scenarios", id, ", ".join(scenarios))
    return str(id)


def _time(field: str, value: object) -> int:
    return 0 if value is None else parse_time(field, value)


def _list(field: str, value: object, most: int, least: int = 0) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not least <= len(value) <= most:
        raise InvalidField(field, value, f"a list of {least} to {most}")
    return value


_PARTS: Mapping[str, Any] = {
    "amount": lambda name, value: parse_number(name, value, 0.0, 100.0),
    "position": lambda name, value: parse_whole(name, value, 0, MOST_POSITION),
    "count": lambda name, value: parse_whole(name, value, 1, MOST_COUNT),
    "most": parse_most,
    "window": parse_window,
}
