"""What the jobs work on, and the catalogue as they read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ray_app.catalog import changes
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelves import Shelves
from ray_app.registry.watch import Live
from ray_app.training.history import History, read_history

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.registry.registry import Registry
    from ray_app.stores.base import Documents, Vectors
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.olap import Olap


class Stores(Protocol):
    """The part of the opened world that training needs."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def documents(self) -> Documents: ...
    @property
    def vectors(self) -> Vectors: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def olap(self) -> Olap: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def registry(self) -> Registry: ...


async def catalogue(stores: Stores, live: Live, tenant: str) -> Pinned:
    """The tenant's items with the live embedder's vectors."""
    await live.refresh(tenant)
    prefix = stores.settings.stores.redis_prefix
    shelves = Shelves(stores.documents, stores.vectors, stores.redis, prefix, lambda t: live.of(t).space())
    return (await shelves.of(tenant)).pin()


async def history(stores: Stores, tenant: str, pinned: Pinned) -> History:
    return await read_history(stores.olap, tenant, pinned.rows, pinned.n, stores.clock.now())


async def origin_of(stores: Stores, tenant: str) -> dict[str, Any]:
    """What an artifact made from now on says of its origin: the epoch of the row numbers, which begins anew when rows
    are compacted (never, so far), and the last entry of the change feed that it may have seen."""
    newest: Any = await stores.redis.xrevrange(changes.key(stores.settings.stores.redis_prefix, tenant), count=1)
    return {"row_epoch": 0, "feed": newest[0][0].decode() if newest else "0-0"}
