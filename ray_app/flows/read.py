"""Entries of a batch as events, whoever wrote them; what cannot be read goes to the batch's dead letters."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Set
from functools import cache, lru_cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import orjson

from ray_app.catalog.tenant import parse_tenant
from ray_app.errors import LemoError
from ray_app.events import schema, wire_behaviors
from ray_app.events.base import Logged
from ray_app.streams.flow import Bad, Batch
from ray_app.types import Behavior, Slate

T = TypeVar("T")
MOST_REASON = 1000  # characters
UNREADABLE = (LemoError, ValueError, TypeError, KeyError, RecursionError)
LARGEST = 2**53  # of a whole number that Redis' Lua and every client of ours can hold


def events(batch: Batch, read: Callable[[Logged], T]) -> Iterator[tuple[Logged, T]]:
    """(entry, event) for each entry that `read` can read."""
    for entry in batch.entries:
        try:
            event = read(entry)
        except UNREADABLE as e:
            batch.bad.append(Bad(entry, reason(e)))
            continue
        yield entry, event


def reason(e: Exception) -> str:
    """What a dead letter says. Cut, since an error may repeat a name as long as the message."""
    said = f"{type(e).__name__}: {e}"
    return said if len(said) <= MOST_REASON else f"{said[: MOST_REASON - 3]}..."


def behaviors(batch: Batch, types: Set[str] = schema.TYPES) -> Iterator[tuple[int, Behavior]]:
    """(appended_at, behaviour) of those types: the first of each event_id in the batch; across batches the state's own
    ids decide. What cannot be read is a dead letter also when its type is another."""
    met: set[tuple[str, str]] = set()
    clean = schema.is_clean(b"".join([e.body for e in batch.entries]))  # of each alone it would cost five times as much
    for entry in batch.entries:  # not by `events`: a generator in between is a tenth of the cost
        try:
            b = behavior(entry, types, clean)
        except UNREADABLE as e:
            batch.bad.append(Bad(entry, reason(e)))
            continue
        if b is not None and (id := (b.tenant, b.event_id)) not in met:
            met.add(id)
            yield entry.appended_at, b


def behavior(entry: Logged, types: Set[str] = schema.TYPES, clean: bool = False) -> Behavior | None:
    """None for one of another type; `clean` as in schema.plain. Raises ValueError for what is no JSON, and InvalidField
    for what our API would refuse; a behaviour may be older than it would take, since imports of history lie in the log
    as well."""
    found = schema.plain(entry.body, entry.appended_at, clean) or _behavior(entry)
    _check_tenant(found.tenant)
    return found if found.type in types else None


def _behavior(entry: Logged) -> Behavior:
    raw = orjson.loads(entry.body)
    read = schema.behavior_of if schema.is_ours(raw) else wire_behaviors.behavior
    return read(raw, entry.appended_at)


def _check_tenant(tenant: object) -> None:
    """Raises InvalidField. The same few come again and again."""
    if tenant.__class__ is str:
        _parsed(tenant)
    else:
        parse_tenant(tenant)


_parsed = lru_cache(10_000)(parse_tenant)


def slate(entry: Logged) -> Slate:
    """Raises ValueError, TypeError or KeyError for what is no slate of ours."""
    found = schema.read_slate(entry.body)
    _check(found)
    _check_tenant(found.tenant)
    return found


def _check(event: Any) -> None:
    """Raises TypeError or ValueError, naming the field: others may write to a topic, and a value of a wrong type
    would fail later, where it would hold up everything behind it."""
    for name, allowed in _fields(event.__class__):
        value = getattr(event, name)
        if not isinstance(value, allowed):
            raise TypeError(f"{name} is a {type(value).__name__}")
        if isinstance(value, int) and float not in allowed and not 0 <= value < LARGEST:
            raise ValueError(f"{name} is {value}, outside 0 to 2^53 - 1")


@cache
def _fields(kind: type) -> list[tuple[str, tuple[type, ...]]]:
    """The types that each field may have; a float may also be a whole number."""
    return [(name, tuple(_plain(hint))) for name, hint in get_type_hints(kind).items()]


def _plain(hint: Any) -> Iterator[type]:
    if get_origin(hint) is types.UnionType:
        for part in get_args(hint):
            yield from _plain(part)
        return
    yield get_origin(hint) or hint
    if hint is float:
        yield int
