"""Fields that several use cases are asked with. The HTTP door makes numbers of those that stand in a query."""

from __future__ import annotations

from ray_app.errors import InvalidField


def parse_flag(field: str, value: object) -> bool:
    """Also as text, since a query has nothing else. Raises InvalidField."""
    if value is None or value is False or value == "false":
        return False
    if value is True or value == "true":
        return True
    raise InvalidField(field, value, "true, false")


def parse_count(field: str, value: object, most: int) -> int:
    """Raises InvalidField for what is no whole number from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidField(field, value, f"1..{most}")
    return value
