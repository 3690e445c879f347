"""What is asked: one validated request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_app.errors import InvalidField
from ray_app.events.schema import is_number, parse_id, refuse_unknown

FIELDS = ("scenario", "user_id", "session_id", "n", "context_item_id", "filters", "exclude", "debug")
FILTER_FIELDS = ("item_id", "type", "category", "tags", "price", "published_at")
OPS = ("eq", "in", "gte", "lte")
ORDERED = ("price", "published_at")
MOST_N, MOST_FILTERS, MOST_EXCLUDED = 200, 20, 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a field of the item; all filters of an ask must hold. `tags` eq x: one of the tags is x."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks, for which place, how many, under which conditions. Neither id: an unknown visitor."""

    scenario: str
    n: int = 10
    user_id: str | None = None
    session_id: str | None = None
    context_item_id: str | None = None
    filters: tuple[Filter, ...] = ()
    exclude: tuple[str, ...] = ()
    debug: bool = False

    @property
    def visitor(self) -> str:
        """As `Behavior.visitor`; empty for somebody unknown."""
        return f"u:{self.user_id}" if self.user_id else f"s:{self.session_id}" if self.session_id else ""


def parse(raw: Mapping[str, Any]) -> Ask:
    """Raises InvalidField for the first field that is not allowed."""
    refuse_unknown(raw, FIELDS)
    user, session, context = raw.get("user_id"), raw.get("session_id"), raw.get("context_item_id")
    if user is not None and session is not None:
        raise InvalidField("user_id", user, "one of user_id and session_id, not both")
    debug = raw.get("debug", False)
    if not isinstance(debug, bool):
        raise InvalidField("debug", debug, "true or false")
    return Ask(
        parse_id("scenario", raw.get("scenario")),
        _n(raw.get("n", 10)),
        None if user is None else parse_id("user_id", user),
        None if session is None else parse_id("session_id", session),
        None if context is None else parse_id("context_item_id", context),
        tuple(_filter(i, f) for i, f in enumerate(_list("filters", raw.get("filters"), MOST_FILTERS))),
        tuple(parse_id("exclude", i) for i in _list("exclude", raw.get("exclude"), MOST_EXCLUDED)),
        debug,
    )


def _n(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_N:
        raise InvalidField("n", value, f"1..{MOST_N}")
    return value


def _list(field: str, value: object, most: int) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > most:
        raise InvalidField(field, value, f"a list of at most {most}")
    return value


def _filter(i: int, raw: object) -> Filter:
    name = f"filters[{i}]"
    if not isinstance(raw, Mapping) or set(raw) != {"field", "op", "value"}:
        raise InvalidField(name, raw, "an object with exactly field, op and value")
    field, op, value = raw["field"], raw["op"], raw["value"]
    if field not in FILTER_FIELDS and not (isinstance(field, str) and field.startswith("attributes.")):
        raise InvalidField(f"{name}.field", field, f"{', '.join(FILTER_FIELDS)} or attributes.<name>")
    if op not in OPS:
        raise InvalidField(f"{name}.op", op, ", ".join(OPS))
    if op == "in":
        if not isinstance(value, list) or not value or len(value) > MOST_EXCLUDED:
            raise InvalidField(f"{name}.value", value, f"a list of 1 to {MOST_EXCLUDED} values")
        return Filter(field, op, tuple(_value(f"{name}.value", field, op, v) for v in value))
    return Filter(field, op, _value(f"{name}.value", field, op, value))


def _value(name: str, field: str, op: str, value: object) -> str | float | bool:
    free = field.startswith("attributes.")
    if is_number(value) and (free or field in ORDERED):
        return float(value)
    if op in ("gte", "lte"):
        if field not in ORDERED and not free:
            raise InvalidField(name.replace(".value", ".op"), op, "gte and lte on price, published_at, attributes")
        raise InvalidField(name, value, "a number")
    if isinstance(value, bool) and free:
        return value
    if isinstance(value, str) and field not in ORDERED:
        return value
    raise InvalidField(name, value, "a number" if field in ORDERED else "a string")
