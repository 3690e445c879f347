"""A web server, and what fetches from it: every name that is looked up here leads to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_app import wiring
from ray_app.config import Content, Settings
from ray_app.content.fetch import Fetcher
from ray_app.content.tasks import HANDLERS
from ray_app.wiring.stores import World
from tests.tasks_world import TasksWorld, settings_of
from tests.web import Web

if TYPE_CHECKING:
    from redis.asyncio import Redis

Open = Callable[..., Fetcher]


@pytest.fixture(scope="session")
def served() -> Iterator[Web]:
    web = Web()
    yield web
    web.stop()


@pytest.fixture
def web(served: Web) -> Web:
    served.pages.clear()
    served.asked.clear()
    return served


async def here(host: str, port: int) -> Sequence[str]:
    """DNS of the tests: every name is this machine."""
    return ["127.0.0.1"]


@pytest.fixture
async def open_fetcher(redis: Redis) -> AsyncIterator[Open]:
    """Each call: a fetcher of these settings that lets news.test in, and waits for nobody."""
    async with AsyncExitStack() as stack:

        def open(resolve: Any = here, verify: Any = True, **settings: Any) -> Fetcher:
            known = {"allow_hosts": ("news.test",), "delay_s": 0.0, "timeout_s": 5.0, **settings}
            made = Fetcher(Content(**known), redis, "test", resolve, verify)
            stack.push_async_exit(made)
            return made

        yield open


@pytest.fixture
def fetcher(open_fetcher: Open) -> Fetcher:
    return open_fetcher()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """The test's server is let in, nobody waits for it, and no page is too old."""
    content = Content(allow_hosts=("127.0.0.1",), delay_s=0.0, timeout_s=5.0, keep_s=20 * 366 * 86400)
    return settings_of(redis_url, tmp_path, retries=1).model_copy(update={"content": content})


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """The embedded stores."""
    opened = wiring.world(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def tasks(settings: Settings) -> AsyncIterator[TasksWorld]:
    made = TasksWorld(settings, HANDLERS)
    yield made
    await made.close()
