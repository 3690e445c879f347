"""What is asked: one validated request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_app.catalog import filter as filters
from ray_app.catalog.fields import parse_whole
from ray_app.catalog.filter import Filter
from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id, refuse_unknown

FIELDS = ("scenario", "user_id", "session_id", "n", "context_item_id", "filters", "exclude", "debug")
MOST_N, MOST_FILTERS, MOST_EXCLUDED = 200, 20, 1000


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
    wanted = _list("filters", raw.get("filters"), MOST_FILTERS)
    debug = raw.get("debug", False)
    if not isinstance(debug, bool):
        raise InvalidField("debug", debug, "true or false")
    return Ask(
        parse_id("scenario", raw.get("scenario")),
        parse_whole("n", raw.get("n", 10), 1, MOST_N),
        None if user is None else parse_id("user_id", user),
        None if session is None else parse_id("session_id", session),
        None if context is None else parse_id("context_item_id", context),
        tuple(filters.parse(f"filters[{i}]", f) for i, f in enumerate(wanted)),
        tuple(parse_id("exclude", i) for i in _list("exclude", raw.get("exclude"), MOST_EXCLUDED)),
        debug,
    )


def _list(field: str, value: object, most: int) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > most:
        raise InvalidField(field, value, f"a list of at most {most}")
    return value
