"""A use case: one call with its route, from which both doors are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from ray_app.errors import Unavailable
from ray_app.serving.app import App

Ask = Mapping[str, Any]
Answer = dict[str, Any]
Call = Callable[[App, str, Ask], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Use:
    """`path` has the ask's fields of that name in braces; `query` names those that may stand behind `?`; a POST and a
    PUT have a JSON object as their body. `rpc` is the gRPC method, None where HTTP alone has it."""

    name: str
    method: str
    path: str
    call: Call
    about: str
    rpc: str | None = None
    query: tuple[str, ...] = ()

    async def answer(self, app: App, tenant: str, raw: Ask) -> Answer:
        """What `call` answers. Raises Unavailable where it needs the state store, which is away."""
        try:
            return await self.call(app, tenant, raw)
        except RedisError as e:
            raise Unavailable(f"the state store is away: {type(e).__name__}") from e
