"""What the content pipeline works on: a part of the opened world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.events.base import EventLog
    from ray_app.registry.registry import Registry
    from ray_app.stores.base import Documents
    from ray_app.stores.blobs import Blobs


class Stores(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def log(self) -> EventLog: ...
    @property
    def documents(self) -> Documents: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def registry(self) -> Registry: ...
