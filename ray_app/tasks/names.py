"""Handlers by their names, and by those that they had in the old systems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from ray_app.errors import InvalidField, InvalidSettings, NotFound
from ray_app.tasks.work import Handler


class UnknownTask(NotFound):
    """No handler has this name."""

    reason = "UNKNOWN_TASK"


class Names:
    """Raises InvalidSettings when two handlers share a name."""

    def __init__(self, handlers: Iterable[Handler]) -> None:
        self.handlers = tuple(handlers)
        self._exact: dict[str, Handler] = {}
        self._begins: list[tuple[str, Handler]] = []
        for h in self.handlers:
            for name in (h.name, *h.aliases):
                if name.endswith(".*"):
                    self._begins.append((name[:-1], h))
                elif self._exact.setdefault(name, h) is not h:
                    raise InvalidSettings(f"two handlers are called {name!r}: {h.name}, {self._exact[name].name}")

    def known(self, name: str) -> bool:
        return name in self._exact or any(name.startswith(b) for b, _ in self._begins)

    def of(self, name: str) -> Handler:
        """Raises UnknownTask, naming the known ones."""
        found = self._exact.get(name) or next((h for b, h in self._begins if name.startswith(b)), None)
        if found is None:
            shown = name if len(name) <= 80 else name[:77] + "..."
            known = ", ".join(sorted(h.name for h in self.handlers))
            raise UnknownTask(f"task {shown!r} is unknown. Known: {known}", field="name", value=shown)
        return found


def merged(handler: Handler, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by position, as old producers send them, and by name. Raises InvalidField."""
    if len(args) > len(handler.positional):
        raise InvalidField("args", args, f"{handler.name} takes by position: {', '.join(handler.positional) or 'none'}")
    by_place = dict(zip(handler.positional, args, strict=False))
    if twice := by_place.keys() & kwargs.keys():
        raise InvalidField(min(twice), kwargs[min(twice)], "once: it is given by position too")
    return {**by_place, **kwargs}


def checked(handler: Handler, argument: Mapping[str, Any]) -> BaseModel:
    """The argument as the handler's class. Raises InvalidField for the first field that it refuses."""
    try:
        return handler.asks.model_validate(argument)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "argument"
        raise InvalidField(where, first.get("input"), f"{first['msg']} (task {handler.name})") from None


def written(handler: Handler, argument: Mapping[str, Any]) -> bytes:
    """Checked, and as JSON that the handler's class takes again. Raises InvalidField."""
    try:
        text = as_json(checked(handler, argument))
    except TypeError as e:
        allowed = f"what JSON holds, nested 250 deep at most, integers of 64 bits: {e} (task {handler.name})"
        raise InvalidField("argument", ", ".join(argument), allowed) from None
    if b"null" in text:  # which is what becomes of NaN
        checked(handler, orjson.loads(text))
    return text


def as_json(value: Any) -> bytes:
    """Results too: pydantic models and dataclasses are written by their fields. Raises TypeError."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)  # as its class reads it
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"a result holds a {type(value).__name__}; allowed: what JSON has, pydantic models, dataclasses")
