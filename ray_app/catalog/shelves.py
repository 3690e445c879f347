"""The shelves of a replica: read from documents once, then kept by the change feeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from redis.exceptions import RedisError

from ray_app.cancel import cancel
from ray_app.catalog import changes, sold_out
from ray_app.catalog.changes import Change
from ray_app.catalog.plane import Space
from ray_app.catalog.rows import FIRST, Epoch
from ray_app.catalog.shelf import Shelf
from ray_app.errors import LemoError
from ray_app.events.schema import item_from_dict
from ray_app.stores.base import Documents, Vectors

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)
PAGE = 2000
POLL_S = 0.05  # between two looks at the feeds; an item's write is seen within this


class Shelves:
    """`space_of(tenant)` answers the live embedder's space, or None before the first embed job; `epoch_of(tenant)`
    the live rows: when they change, a shelf in the new ones is loaded beside the old one, then takes its place."""

    def __init__(
        self,
        documents: Documents,
        vectors: Vectors,
        redis: Redis,
        prefix: str,
        space_of: Callable[[str], Space | None],
        epoch_of: Callable[[str], Epoch] = lambda tenant: FIRST,
    ) -> None:
        self._documents, self._vectors, self._redis, self._prefix = documents, vectors, redis, prefix
        self._space_of, self._epoch_of = space_of, epoch_of
        self.known: Callable[[str], Awaitable[object]] | None = None  # awaited before a shelf is read: what is live
        self.ready: Callable[[str, Shelf], Awaitable[None]] | None = None  # awaited before a shelf is given to anybody
        self._held: dict[str, Shelf] = {}
        self._places: dict[str, bytes] = {}
        self._loading: dict[str, asyncio.Task[Shelf]] = {}
        self._tail: asyncio.Task[None] | None = None
        self._moved = asyncio.Condition()

    def start(self) -> None:
        self._tail = asyncio.create_task(self._follow(), name="shelves")

    async def stop(self) -> None:
        await cancel(t for t in (self._tail, *self._loading.values()) if t)

    def held(self, tenant: str) -> Shelf | None:
        """The tenant's shelf if it is loaded; otherwise loading begins."""
        shelf = self._held.get(tenant)
        if shelf is None:
            self._begin(tenant)
        return shelf

    async def of(self, tenant: str) -> Shelf:
        """The tenant's shelf, loaded first where it must be."""
        held = self._held.get(tenant)
        return held if held is not None else await asyncio.shield(self._begin(tenant))

    async def caught_up(self, tenant: str) -> None:
        """Returns when everything that stands in the tenant's feed now is on the shelf."""
        await self.of(tenant)
        newest: Any = await self._redis.xrevrange(changes.key(self._prefix, tenant), count=1)
        if not newest:
            return
        wanted = _place(newest[0][0])
        async with self._moved:
            await self._moved.wait_for(lambda: _place(self._places.get(tenant, b"0-0")) >= wanted)

    def _begin(self, tenant: str) -> asyncio.Task[Shelf]:
        task = self._loading.get(tenant)
        if task is None or task.done():
            task = self._loading[tenant] = asyncio.create_task(self._load(tenant))
            task.add_done_callback(_report)
        return task

    async def _load(self, tenant: str) -> Shelf:
        """The feed's end first, then the documents: what comes between is applied twice, which changes nothing."""
        if self.known is not None:
            await self.known(tenant)
        newest: Any = await self._redis.xrevrange(changes.key(self._prefix, tenant), count=1)
        epoch = self._epoch_of(tenant)
        shelf, after = Shelf(epoch.size(await self._documents.number(tenant, "rows")), epoch), ""
        while page := await self._documents.find(tenant, "items", limit=PAGE, after=after):
            shelf.apply(_placed([Change(d.id, int(d.body["row"]), d.version, d.body) for d in page], epoch))
            after = page[-1].id
        shelf.apply([c async for c in sold_out.read(self._documents, tenant)])
        await self._fill(tenant, shelf)
        if self.ready is not None:
            await self.ready(tenant, shelf)
        place = await self._level(tenant, shelf, newest[0][0] if newest else b"0-0")
        self._held[tenant], self._places[tenant] = shelf, place
        return shelf

    async def _level(self, tenant: str, shelf: Shelf, place: bytes) -> bytes:
        """`shelf` with all that the one before it shows, so that nobody misses what he has seen; its place then."""
        key = changes.key(self._prefix, tenant)
        while _place(place) < _place(self._places.get(tenant, place)) and not await self._trimmed(key.encode(), place):
            found: Any = await self._redis.xread({key: place}, count=PAGE)
            if not found:  # the feed has lost what the one before was told
                break
            await self._put(tenant, shelf, found[0][1])
            place = found[0][1][-1][0]
        return place

    async def _fill(self, tenant: str, shelf: Shelf) -> None:
        """Vectors of the live space: those stored, and for the rest ones made here. What is live with other rows waits
        for a shelf that has them."""
        live = self._space_of(tenant)
        if live is None or live.name == shelf.space or self._epoch_of(tenant).id != shelf.epoch.id:
            return
        numbers, found = await self._vectors.load(tenant, live.name)
        rows = shelf.epoch.of(numbers)
        stored, vectors = rows[rows >= 0], found[rows >= 0]
        shelf.replace_vectors(live.name, stored, vectors, live.base)
        missing = shelf.without_vector()
        if missing:
            made = await asyncio.to_thread(live.embed, [item_from_dict(b) for _, b in missing])
            here = np.array([r for r, _ in missing], np.int32)
            both = np.concatenate([stored, here]), np.concatenate([vectors.reshape(-1, made.shape[1]), made])
            shelf.replace_vectors(live.name, *both, live.base)

    async def _follow(self) -> None:
        while True:
            try:
                await self._turn()
            except (RedisError, LemoError, OSError) as e:
                logger.warning("the change feed cannot be read", extra={"why": str(e)[:200]})
                await asyncio.sleep(1.0)
            except Exception:  # of ours: it may not end this loop for every tenant
                logger.exception("changes cannot be applied; they are tried again")
                await asyncio.sleep(1.0)
            await asyncio.sleep(POLL_S)

    async def _turn(self) -> None:
        """What the feeds say since our places; a feed that no longer reaches back to ours means a reload."""
        if not self._places:
            return
        keys = {changes.key(self._prefix, t): t for t in self._places}
        found: Any = await self._redis.xread({k: self._places[t] for k, t in keys.items()}, count=PAGE)
        for key, entries in found:
            tenant = keys[key.decode()]
            if await self._trimmed(key, self._places[tenant]):
                await self._load(tenant)
            else:
                await self._apply(tenant, entries)
        for tenant, shelf in list(self._held.items()):
            if self._epoch_of(tenant).id != shelf.epoch.id:
                self._begin(tenant)
            await self._fill(tenant, shelf)
        async with self._moved:
            self._moved.notify_all()

    async def _trimmed(self, key: bytes, place: bytes) -> bool:
        return place != b"0-0" and not await self._redis.xrange(key, place, place)

    async def _apply(self, tenant: str, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        shelf = self._held[tenant]
        await self._put(tenant, shelf, entries)
        if self._held[tenant] is shelf:  # another that took its place has a place of its own
            self._places[tenant] = entries[-1][0]

    async def _put(self, tenant: str, shelf: Shelf, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        batch = _placed([changes.decode(fields) for _, fields in entries], shelf.epoch)
        made: dict[str, Any] = {}
        live = self._space_of(tenant)
        lacking = shelf.lacks(batch) if live and live.name == shelf.space else []
        if live and lacking:
            found = await asyncio.to_thread(live.embed, [item_from_dict(c.item) for c in lacking if c.item])
            made = {c.item_id: v for c, v in zip(lacking, found, strict=True)}
        shelf.apply(batch, made)


def _placed(batch: Sequence[Change], epoch: Epoch) -> list[Change]:
    """With rows for numbers, without items that have none."""
    if not len(epoch.dense):
        return list(batch)
    told, batch = [c for c in batch if c.sold_out is not None], [c for c in batch if c.sold_out is None]
    rows = epoch.of(np.array([c.row for c in batch], np.int32)).tolist()
    for c, row in zip(batch, rows, strict=True):
        if row < 0 and c.item is not None:
            logger.warning("an item's number has no row before the next compaction", extra={"item": c.item_id})
    return told + [replace(c, row=row) for c, row in zip(batch, rows, strict=True) if row >= 0]


def _place(id: bytes) -> tuple[int, int]:
    ms, _, n = id.partition(b"-")
    return int(ms), int(n)


def _report(task: asyncio.Task[Shelf]) -> None:
    if not task.cancelled() and task.exception():
        logger.warning("a shelf could not be loaded", extra={"why": str(task.exception())[:200]})
