"""Entries of a batch as events; what cannot be read goes to the batch's dead letters."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ray_app.events import schema
from ray_app.streams.flow import Bad, Batch
from ray_app.types import Behavior

T = TypeVar("T")
LARGEST = 2**53  # of a whole number that Redis' Lua and every client of ours can hold


def events(batch: Batch, parse: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
    """(appended_at, event) for each entry that `parse` can read and whose fields are of their types."""
    for entry in batch.entries:
        try:
            event = parse(entry.body)
            _check(event)
        except (ValueError, TypeError, KeyError) as e:
            batch.bad.append(Bad(entry, f"{type(e).__name__}: {e}"))
            continue
        yield entry.appended_at, event


def behaviors(batch: Batch) -> Iterator[tuple[int, Behavior]]:
    """The first of each event_id in the batch; across batches the state's own ids decide."""
    met: set[tuple[str, str]] = set()
    for at, b in events(batch, schema.read_behavior):
        if (b.tenant, b.event_id) not in met:
            met.add((b.tenant, b.event_id))
            yield at, b


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
