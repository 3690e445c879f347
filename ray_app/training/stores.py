"""What the jobs work on, and the catalogue as they read it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ray_app.catalog import changes
from ray_app.catalog.pinned import Pinned
from ray_app.catalog.shelves import Shelves
from ray_app.features.hot import WEIGHTS
from ray_app.features.profile import UNWANTED
from ray_app.registry.watch import Live
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
    await live.refresh(tenant)
    prefix = stores.settings.stores.redis_prefix
    shelves = Shelves(stores.documents, stores.vectors, stores.redis, prefix, lambda t: live.of(t).space())
    return (await shelves.of(tenant)).pin()


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
    """What an artifact made from now on says of its origin: the epoch of the row numbers, which begins anew when rows
    are compacted (never, so far), and the last entry of the change feed that it may have seen."""
    newest: Any = await stores.redis.xrevrange(changes.key(stores.settings.stores.redis_prefix, tenant), count=1)
    return {"row_epoch": 0, "feed": newest[0][0].decode() if newest else "0-0"}
