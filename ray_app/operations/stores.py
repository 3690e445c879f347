"""What imports and the first load work on: a part of the opened world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.events.base import EventLog
    from ray_app.registry.registry import Registry
    from ray_app.stores.base import Documents, Vectors
    from ray_app.stores.blobs import Blobs
    from ray_app.stores.olap import Olap
    from ray_app.tasks.queue import Queue


class Target(Protocol):
    """Where an import writes."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def log(self) -> EventLog: ...


class Stores(Target, Protocol):
    """Where it can be seen whether something is there already, and what has become of it."""

    @property
    def documents(self) -> Documents: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def registry(self) -> Registry: ...


class House(Stores, Protocol):
    """All that is kept well."""

    @property
    def vectors(self) -> Vectors: ...
    @property
    def olap(self) -> Olap: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def queue(self) -> Queue: ...
