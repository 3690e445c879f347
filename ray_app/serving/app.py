"""What the use cases work on. `wiring.open_app` makes it; tests make it with other parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.access.keys import Keys
    from ray_app.analytics.tasks import History
    from ray_app.catalog.plane import Space
    from ray_app.catalog.rule import Rules
    from ray_app.catalog.scenario import Scenarios
    from ray_app.catalog.shelves import Shelves
    from ray_app.clock import Clock
    from ray_app.config import Settings
    from ray_app.events.base import EventLog
    from ray_app.operations.models import Models
    from ray_app.operations.pool import Pool
    from ray_app.recommend import Recommender
    from ray_app.serving.slates import Slates
    from ray_app.serving.traces import Traces
    from ray_app.stores.base import Documents, Vectors
    from ray_app.streams.control import Prefixes
    from ray_app.streams.letters import Letters
    from ray_app.tasks.queue import Queue
    from ray_app.tasks.schedules import Schedules


@dataclass(frozen=True)
class App:
    """`space_of`: a tenant's live space of text vectors. `check` names each part that is away and why; `close` ends
    tasks and connections."""

    settings: Settings
    clock: Clock
    log: EventLog
    documents: Documents
    vectors: Vectors
    redis: Redis
    shelves: Shelves
    scenarios: Scenarios
    rules: Rules
    recommender: Recommender
    keys: Keys
    slates: Slates
    traces: Traces
    prefixes: Prefixes
    pool: Pool
    letters: Letters
    models: Models
    space_of: Callable[[str], Space | None]
    schedules: Schedules
    queue: Queue
    history: History
    check: Callable[[], Awaitable[dict[str, str]]]
    close: Callable[[], Awaitable[None]]
