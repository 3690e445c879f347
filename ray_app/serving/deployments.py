"""Gateway: the Serve ingress behind both doors, a class made from the table of use cases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ray import serve

from ray_app.serving.app import App
from ray_app.serving.grpc import METHODS
from ray_app.serving.http import build

Open = Callable[[], Awaitable[App]]


class Doors:
    """`open_app` connects here, in the replica, so that no connection is ever pickled. Serve awaits `__init__`."""

    async def __init__(self, open_app: Open, *others: Any) -> None:  # type: ignore[misc]
        self.lemo = await open_app()

    def __serve_build_asgi_app__(self) -> Any:  # the name that Serve looks for
        return build(lambda: self.lemo)

    async def __del__(self) -> None:
        await self.lemo.close()


def gateway() -> Any:
    shell = type("Gateway", (Doors,), dict(METHODS))
    return serve.deployment(serve.ingress()(shell), name="Gateway")
