"""What a replica does besides answering: follow the catalogue, the registry and the hot boards of every tenant."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from redis.exceptions import RedisError

from ray_app.access.keys import Keys
from ray_app.cancel import cancel
from ray_app.catalog.shelf import Shelf
from ray_app.catalog.shelves import Shelves
from ray_app.clock import Clock
from ray_app.errors import LemoError
from ray_app.features.boards import Boards
from ray_app.registry.watch import Live
from ray_app.streams.control import Prefixes

logger = logging.getLogger(__name__)
BOARDS_S = 2.0
TENANTS_EVERY = 15  # turns of the boards between two looks for new tenants


class Background:
    """Public: what it keeps current."""

    def __init__(
        self, clock: Clock, keys: Keys, live: Live, shelves: Shelves, boards: Boards, prefixes: Prefixes
    ) -> None:
        self._clock, self.keys, self.live, self.shelves, self.boards = clock, keys, live, shelves, boards
        self._prefixes = prefixes
        shelves.known = live.refresh
        shelves.ready = lambda tenant, shelf: self._quietly(self._board(tenant, shelf))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, models_alone: bool = False) -> None:
        """Returns when the known tenants are loaded, or could not be: then it is tried again. `models_alone`: only
        what is live in the registry is followed, of these tenants and of others that are asked for."""
        if models_alone:
            await self._quietly(self._models())
            self._tasks = [asyncio.create_task(self.live.follow())]
            return
        await self._quietly(self._prefixes.refresh())
        await self._quietly(self._tenants())
        self.shelves.start()
        self._tasks = [asyncio.create_task(self.live.follow()), asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        await cancel(self._tasks)
        await self.shelves.stop()

    async def _follow(self) -> None:
        turn = 0
        while True:
            await self._quietly(self._refresh())
            await asyncio.sleep(BOARDS_S)
            turn += 1
            if turn % TENANTS_EVERY == 0:
                await self._quietly(self._tenants())

    async def _tenants(self) -> None:
        for tenant in await self.keys.tenants():
            await self.shelves.of(tenant)
        await self._refresh()

    async def _models(self) -> None:
        for tenant in await self.keys.tenants():
            await self.live.refresh(tenant)

    async def _refresh(self) -> None:
        await self._prefixes.refresh()
        for tenant in self.live.tenants():
            shelf = self.shelves.held(tenant)
            if shelf is not None:
                self.live.moved_to(tenant, shelf.epoch.id)
                await self._board(tenant, shelf)

    async def _board(self, tenant: str, shelf: Shelf) -> None:
        pinned = shelf.pin()
        await self.boards.refresh(tenant, pinned.rows, pinned.n, self._clock.now(), pinned.epoch)

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await work
        except (LemoError, RedisError, OSError) as e:
            logger.warning("a store is away; what is known goes on", extra={"why": str(e)[:200]})
        except Exception:  # of ours: it may not end this loop for every tenant
            logger.exception("background work failed; what is known goes on")
