"""The desk: by a lease one replica of all ships the history and tells the figures of the whole cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from ray_app.errors import LemoError
from ray_app.tasks import figures
from ray_app.tasks.figures import Figure, Gone
from ray_app.tasks.inspection import Inspection
from ray_app.tasks.relay import Lease, Relay
from ray_app.tasks.worker import Worker

logger = logging.getLogger(__name__)
Tell = Callable[[Sequence[Figure]], None]
PAUSE_S = 1.0
LEASE_S = 5.0


@dataclass
class Desk:
    """`tell` gets figures, each gauge as it is now and each count as what is added."""

    lease: Lease
    relay: Relay
    inspection: Inspection
    tell: Tell
    _gone: Gone = field(default_factory=Gone)

    async def run(self, pause_s: float = PAUSE_S) -> None:
        """Until it is cancelled. Stores that are away are asked again."""
        while True:
            try:
                await self.step()
            except (RedisError, OSError, LemoError) as e:
                logger.warning("the history waits; it is tried again", extra={"why": f"{type(e).__name__}: {e}"[:300]})
            except Exception:  # it may not end what ships all history
                logger.exception("the history was not shipped; it is tried again")
            await asyncio.sleep(pause_s)

    async def step(self) -> bool:
        """Everything that there is to ship, and the figures; False where another has the desk."""
        if not await self.lease.held():
            self.tell(self._gone.with_zeros(()))
            return False
        self.tell(self._gone.with_zeros(await figures.now(self.inspection)))
        while shipped := await self.relay.step():
            self.tell(list(figures.of_attempts(shipped)))
            if not await self.lease.held():
                break
        return True


@dataclass(frozen=True)
class Crew:
    """What a replica of Workers has: `backlog` tells what waits in its pool's queues."""

    worker: Worker
    backlog: Callable[[], Awaitable[dict[str, float]]]
    desk: Desk
    close: Callable[[], Awaitable[None]]
