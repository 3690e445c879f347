"""Fields of what a client writes: numbers in a range, and objects with known fields. Each raises InvalidField."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_app.errors import InvalidField
from ray_app.events.schema import is_number


def parse_whole(name: str, value: object, least: int, most: int) -> int:
    """An integer from `least` to `most`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidField(name, value, f"{least}..{most}")
    return value


def parse_number(name: str, value: object, least: float, most: float) -> float:
    """A number from `least` to `most`."""
    if not is_number(value) or not least <= value <= most:
        raise InvalidField(name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def parse_fields(name: str, raw: object, needed: tuple[str, ...], also: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """`raw` as an object that has the needed fields and no unknown one."""
    if not isinstance(raw, Mapping) or not set(needed) <= set(raw) <= {*needed, *also}:
        more = f", perhaps {', '.join(also)}" if also else ""
        raise InvalidField(name, raw, f"an object with {' and '.join(needed)}{more}")
    return raw
