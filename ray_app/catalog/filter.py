"""One condition on a field of the item: what asks filter by, and which items a rule is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_app.errors import InvalidField
from ray_app.events.schema import is_number

FIELDS = ("item_id", "type", "category", "tags", "price", "published_at")
FREE = "attributes."  # the beginning of a field that a shop has named
OPS = ("eq", "in", "gte", "lte")
ORDERED = ("price", "published_at")
MOST_VALUES = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """All filters of a list must hold. `tags` eq x: one of the tags is x."""

    field: str
    op: str
    value: Any


def parse(name: str, raw: object) -> Filter:
    """`name` is what errors call it. Raises InvalidField."""
    if not isinstance(raw, Mapping) or set(raw) != {"field", "op", "value"}:
        raise InvalidField(name, raw, "an object with exactly field, op and value")
    field, op, value = raw["field"], raw["op"], raw["value"]
    if field not in FIELDS and not (isinstance(field, str) and field.startswith(FREE)):
        raise InvalidField(f"{name}.field", field, f"{', '.join(FIELDS)} or attributes.<name>")
    if op not in OPS:
        raise InvalidField(f"{name}.op", op, ", ".join(OPS))
    if op == "in":
        if not isinstance(value, list) or not value or len(value) > MOST_VALUES:
            raise InvalidField(f"{name}.value", value, f"a list of 1 to {MOST_VALUES} values")
        return Filter(field, op, tuple(_value(f"{name}.value", field, op, v) for v in value))
    return Filter(field, op, _value(f"{name}.value", field, op, value))


def _value(name: str, field: str, op: str, value: object) -> str | float | bool:
    free = field.startswith(FREE)
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
