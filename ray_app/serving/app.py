"""What the use cases work on. `wiring.app` makes it; tests make it with other parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.access.keys import Keys
    from ray_app.catalog.scenario import Scenarios
    from ray_app.catalog.shelf import Shelves
    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.events.base import EventLog
    from ray_app.recommend import Recommender
    from ray_app.stores.base import Documents


@dataclass(frozen=True)
class App:
    settings: Settings
    clock: Clock
    log: EventLog
    documents: Documents
    redis: Redis
    shelves: Shelves
    scenarios: Scenarios
    recommender: Recommender
    keys: Keys
