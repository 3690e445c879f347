"""What the jobs work on, and the catalogue as they read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelves import Shelves
from ray_app.features.content import space_of
from ray_app.registry.watch import Live
from ray_app.training.history import History, read_history

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.registry.registry import Registry
    from ray_app.stores.base import Documents, Vectors
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
    def registry(self) -> Registry: ...


async def catalogue(stores: Stores, live: Live, tenant: str) -> Pinned:
    """The tenant's items with the live embedder's vectors."""
    await live.refresh(tenant)
    prefix = stores.settings.stores.redis_prefix
    shelves = Shelves(stores.documents, stores.vectors, stores.redis, prefix, lambda t: space_of(live.of(t).embedder))
    return (await shelves.of(tenant)).pin()


async def history(stores: Stores, tenant: str, pinned: Pinned) -> History:
    return await read_history(stores.olap, tenant, pinned.rows, pinned.n, stores.clock.now())
