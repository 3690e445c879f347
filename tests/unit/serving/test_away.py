"""A call that needs the state store while it is away: refused as such, and not as an error of ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM
from ray_app.clock import FixedClock
from ray_app.config import Settings
from ray_app.events.base import Topics
from ray_app.events.memory import MemoryLog
from ray_app.operations.pool import Pool
from ray_app.serving.http import build
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.redis import connect
from ray_app.streams.control import Prefixes
from ray_app.streams.letters import Letters
from tests.unit.make import NOW

NOBODY = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/streams", None), ("PUT", "/streams/hot", {"paused": True}), ("GET", "/dead-letters?topic=t", None),
        ("POST", "/dead-letters/drop", {"topic": "t", "ids": ["0/0"]}), ("GET", "/analytics/realtime", None),
    ],
)  # fmt: skip
async def test_it_is_unavailable_with_when_to_come_back(method: str, path: str, body: Any) -> None:
    clock, redis = FixedClock(NOW), connect(NOBODY)
    log, keys = MemoryLog(4, clock), Keys(MemoryDocuments(clock), clock)
    pool = Pool(log, redis, "lemo", {"hot": Topics(("t",))}, clock, lambda name, at: None)  # type: ignore[arg-type,return-value]
    parts: Any = SimpleNamespace(
        settings=Settings(), clock=clock, keys=keys, redis=redis, pool=pool, letters=Letters(log, redis, "lemo"),
        prefixes=Prefixes(redis, "lemo"),
    )  # fmt: skip
    headers = {"X-API-Key": await keys.create(SYSTEM)}
    transport = httpx.ASGITransport(build(lambda: parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://lemo/api/v1", headers=headers) as client:
        refused = await client.request(method, path, json=body)
    await redis.aclose()
    assert (refused.status_code, refused.json()["reason"]) == (503, "UNAVAILABLE")
    assert refused.headers["Retry-After"] == "2"
