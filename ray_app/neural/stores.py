"""What the work of this package stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.events.base import EventLog
    from ray_app.stores.base import Documents, Vectors
    from ray_app.stores.olap import Olap


class Stores(Protocol):
    """The part of the opened world that it needs."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def log(self) -> EventLog: ...
    @property
    def documents(self) -> Documents: ...
    @property
    def vectors(self) -> Vectors: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def olap(self) -> Olap: ...
