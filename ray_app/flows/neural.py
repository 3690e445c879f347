"""Neural events: each becomes a task of its store's tenant.

Promise: each event is one task, since the task's id is made of the event's; the batch that comes again submits the same
ones. What cannot wait for a slot is done first. An event of a store that nobody has made is a dead letter, to be
replayed when the store is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ray_app.errors import InvalidField
from ray_app.events.base import Logged, Topics
from ray_app.flows.read import events, reason
from ray_app.streams.flow import Bad, Batch
from ray_app.streams.state import Op
from ray_app.tasks.queue import PayloadTooLarge, Queue
from ray_app.tasks.task import Submission

if TYPE_CHECKING:
    from ray_app.catalog.store import Store


class Told(Protocol):
    """An event as this flow sees it. `urgent`: it is told to `hurry` before its task is submitted."""

    @property
    def urgent(self) -> bool: ...
    @property
    def store_id(self) -> str: ...
    def submission(self, tenant: str) -> Submission: ...


class Neural:
    """`read` raises what `flows.read.events` takes for an entry that cannot be read."""

    name = "neural"
    linger_s = 0.0

    def __init__(
        self,
        topics: Topics,
        read: Callable[[Logged], Told],
        stores: Callable[[Sequence[str]], Awaitable[Mapping[str, Store]]],
        hurry: Callable[[str, Sequence[Any]], Awaitable[None]],
        queue: Queue,
    ) -> None:
        self.topics, self._read, self._stores, self._hurry, self._queue = topics, read, stores, hurry, queue

    async def flush(self, batch: Batch) -> Sequence[Op]:
        came = list(events(batch, self._read))
        stores = await self._stores([e.store_id for _, e in came])
        asked, urgent = list[tuple[Logged, Submission]](), defaultdict[str, list[Told]](list)
        for entry, e in came:
            store = stores.get(e.store_id)
            if store is None:
                why = InvalidField("store_id", e.store_id, "a store that was made: PUT /api/v1/stores/{store}")
                batch.bad.append(Bad(entry, reason(why)))
            else:
                asked.append((entry, e.submission(store.tenant)))
                urgent[store.tenant] += [e] if e.urgent else []
        for tenant, those in urgent.items():
            if those:
                await self._hurry(tenant, those)
        await self._submit(batch, asked)
        return ()

    async def _submit(self, batch: Batch, asked: Sequence[tuple[Logged, Submission]]) -> None:
        try:
            if asked:
                await self._queue.submit(*(s for _, s in asked))
        except PayloadTooLarge as e:
            if len(asked) == 1:
                batch.bad.append(Bad(asked[0][0], reason(e)))
                return
            for one in asked:  # which of them it is only one by one can tell
                await self._submit(batch, [one])
