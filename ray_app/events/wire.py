"""Messages of other producers: flat or in an envelope, snake_case or camelCase, times in any common form.

`docs/events.md` has the accepted forms with examples. Nothing is checked here beyond the form: what a field may hold
is decided where our own API decides it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ray_app.errors import InvalidField
from ray_app.events.schema import parse_time

PAYLOADS = ("data", "payload", "body")
TENANT = ("tenant_id", "tenant")
SECONDS_BELOW, MILLISECONDS_BELOW, MICROSECONDS_BELOW = 10**11, 10**14, 10**17
MOST_KNOWN = 64  # characters of a name that is remembered: others' names may be as long as a message
NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?")


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a message by their snake_case names. `inner`: those of the payload; without an envelope `outer` is
    empty."""

    outer: Mapping[str, Any]
    inner: Mapping[str, Any]

    @property
    def enveloped(self) -> bool:
        return bool(self.outer)

    def all(self, names: tuple[str, ...], outer: tuple[str, ...] | None = None) -> Iterator[Any]:
        """Each value that is said under one of `names`, the payload's first; in the envelope `outer` are looked for,
        unless given the same names."""
        for part, known in ((self.inner, names), (self.outer, names if outer is None else outer)):
            yield from (part[n] for n in known if part.get(n) is not None)

    def first(self, names: tuple[str, ...], outer: tuple[str, ...] | None = None) -> Any:
        return next(self.all(names, outer), None)

    def tenant(self) -> Any:
        """None when the message names none. Raises InvalidField when it names two."""
        found = [*self.all(TENANT)]
        if any(t != found[0] for t in found):
            raise InvalidField("tenant_id", found[-1], f"{found[0]!r}, as the rest of the message says")
        return found[0] if found else None


def read(raw: object, payloads: tuple[str, ...] = PAYLOADS) -> Message:
    """A message that was read from JSON, with its payload under one of `payloads`, or without an envelope. Raises
    InvalidField for one that is no object."""
    if not isinstance(raw, Mapping):
        raise InvalidField("message", raw, "a JSON object")
    named = _named(raw)
    for name in payloads:
        if isinstance(named.get(name), Mapping):
            outer = {k: v for k, v in named.items() if k != name}
            return Message(outer, _named(named[name]))
    return Message({}, named)


def _named(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their snake_case names; one that is there in both forms: as it is in snake_case."""
    found = {snake(k): v for k, v in raw.items() if v is not None}
    return found | {k: v for k, v in raw.items() if v is not None and k in found}


def snake(name: str) -> str:
    """`itemId`, `ItemID`, `item-id`, `item.id` and `ITEM_ID` as item_id."""
    return _known_snake(name) if len(name) <= MOST_KNOWN else _snake(name)


def _snake(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^0-9a-zA-Z]+", "_", parted).strip("_").lower()


_known_snake = lru_cache(10_000)(_snake)


def as_id(value: Any) -> Any:
    """Ids may be whole numbers on the wire; ours are text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_number(value: Any) -> Any:
    """Also a number that is written as text."""
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value.strip()) else value


def as_time(field: str, value: Any) -> int:
    """ms since 1970 UTC from ISO 8601, or from a number of seconds, milliseconds or microseconds, also as text: its
    size says which. Raises InvalidField."""
    at = as_number(value)
    if isinstance(at, bool) or not isinstance(at, int | float):
        return parse_time(field, value)
    if 0 <= at < SECONDS_BELOW:
        at = at * 1000
    elif MILLISECONDS_BELOW <= at < MICROSECONDS_BELOW:
        at = at // 1000
    if not 0 <= at < MILLISECONDS_BELOW:
        raise InvalidField(field, value, "ISO 8601, or seconds, milliseconds or microseconds since 1970")
    return int(at)
