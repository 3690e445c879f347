"""What the jobs work on, and the catalogue as they read it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ray_app.catalog import changes
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelves import Shelves
from ray_app.features.hot import WEIGHTS
from ray_app.features.profile import UNWANTED
from ray_app.registry.watch import Live, Models
from ray_app.training.builds import columns
from ray_app.training.history import History, from_columns, read_history
from ray_app.training.report import Refused

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.registry.registry import Registry
    from ray_app.stores.base import Documents, Vectors
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.olap import Olap


@dataclass(frozen=True, slots=True)
class Ground:
    """What a fit stands on: the items, the models that are live with their rows, and what the version is to say of its
    origin."""

    pinned: Pinned
    models: Models
    origin: Mapping[str, Any]


NEEDED = ("visitor", "item_id", "type", "occurred_at")  # columns of a history


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
    return await shelf_of(stores, tenant, await live.refresh(tenant))


async def shelf_of(stores: Stores, tenant: str, models: Models) -> Pinned:
    """The tenant's items in the rows and the space of these models."""
    prefix = stores.settings.stores.redis_prefix
    of = (lambda tenant: models.space(), lambda tenant: models.epoch)
    return (await Shelves(stores.documents, stores.vectors, stores.redis, prefix, *of).of(tenant)).pin()


async def history(stores: Stores, tenant: str, pinned: Pinned, dataset: str | None = None) -> tuple[History, str]:
    """Behaviours on items that have a row, and the build that they are of, "" for the live tables; `dataset`: the
    newest build of this name. Raises Refused when it has other columns than behaviours have."""
    if dataset is None:
        return await read_history(stores.olap, tenant, pinned.rows, pinned.n, stores.clock.now()), ""
    build, found = await asyncio.to_thread(columns, stores.blobs, tenant, dataset)
    missing = [c for c in NEEDED if c not in found]
    if missing:
        raise Refused(
            f"dataset {dataset} {build} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}"
        )
    known = {c: found[c] for c in NEEDED}
    keep = np.isin(known["type"], [*WEIGHTS, *UNWANTED])
    order = np.argsort(known["occurred_at"][keep], kind="stable")
    return from_columns({c: v[keep][order] for c, v in known.items()}, pinned.rows, pinned.n), f"{dataset}/{build}"


async def origin_of(stores: Stores, tenant: str) -> dict[str, Any]:
    """What an artifact made from now on says of its origin: the epoch of its rows, and the last entry of the change
    feed that it may have seen. Where a compaction switches behind this, it is not released."""
    newest: Any = await stores.redis.xrevrange(changes.key(stores.settings.stores.redis_prefix, tenant), count=1)
    epoch = await stores.registry.epoch(tenant)
    return {"row_epoch": epoch, "feed": newest[0][0].decode() if newest else "0-0"}
