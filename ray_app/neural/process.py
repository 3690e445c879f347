"""An event from its arrival to its end.

1 keep the event (what was kept first counts, whatever comes under its id later)
2 its effects
3 index it, so that it can be found
4 say that it is done
A crash before 4 begins again at 2 with the event as it was kept; after 4 it is a duplicate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ray_app.neural import effects
from ray_app.neural.event import NeuralEvent, event_of
from ray_app.neural.search import Collection, Entry, words
from ray_app.neural.stores import Stores

KIND = "neural_events"
OPEN, DONE = 0, 1  # versions of its document: what is done is never opened again


async def process(
    stores: Stores, tenant: str, event: NeuralEvent, check: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    """`check`: awaited before effects; it raises where another run has the task. An event comes after those that a
    store sent before it only as far as its time says so."""
    kept = collection(stores, tenant)
    found = await kept.get(event.event_id)
    if found is not None:
        event = event_of(found.body)
    if found is not None and found.version == DONE:
        await effects.again(stores, tenant, event)
        return {"event_id": event.event_id, "duplicate": True, "indexed": True, "effects": []}
    entry = _entry(event, stores.clock.now())
    rows = await kept.keep([entry], OPEN) if found is None else [int(found.body["row"])]
    await check()
    done = await effects.apply(stores, tenant, event)
    await kept.index([entry], rows)
    await kept.keep([_entry(event, stores.clock.now(), done)], DONE, rows)
    return {"event_id": event.event_id, "duplicate": False, "indexed": True, "effects": done}


async def hurry(stores: Stores, tenant: str, urgent: Sequence[NeuralEvent]) -> None:
    """Steps 1 and 2 of alerts, all at once: what is sold out does not wait for a slot. Their tasks find them kept, and
    do the rest."""
    kept = collection(stores, tenant)
    found = await kept.get_many([e.event_id for e in urgent])
    new = {e.event_id: e for e in reversed(urgent) if e.event_id not in found}
    if new:
        await kept.keep([_entry(e, stores.clock.now()) for e in new.values()], OPEN)
    opened = [event_of(d.body) for d in found.values() if d.version == OPEN]
    said = [effects.statement(e) for e in (*opened, *new.values()) if e.urgent]
    if said:
        await effects.stock(stores).say(tenant, said)


def collection(stores: Stores, tenant: str) -> Collection:
    """Where the tenant's events are kept and found."""
    return Collection(stores.documents, stores.vectors, tenant, KIND)


def _entry(event: NeuralEvent, now: int, done: list[dict[str, Any]] | None = None) -> Entry:
    """`now`: from which on it is kept for neural.keep_s."""
    body = event.body()
    head = {k: body[k] for k in ("event_type", "event_source", "store_id", "at")}
    said = (event.event_type.replace(".", " "), event.event_type, event.event_source, event.store_id, words(event.data))
    return Entry(event.event_id, {**body, "effects": done, "kept_at": now}, " ".join(said), head)
