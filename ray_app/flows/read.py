"""Entries of a batch as events; what cannot be read goes to the batch's dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from ray_app.events import schema
from ray_app.streams.flow import Bad, Batch
from ray_app.types import Behavior

T = TypeVar("T")


def events(batch: Batch, parse: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
    """(appended_at, event) for each entry that `parse` can read."""
    for entry in batch.entries:
        try:
            event = parse(entry.body)
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
