"""Steward: a Serve deployment that keeps the detached actors alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import serve


class Steward:
    """`ensure` makes the detached actors that are absent and returns their handles."""

    def __init__(self, ensure: Callable[[], list[Any]]) -> None:
        self._ensure = ensure
        ensure()

    async def check_health(self) -> None:
        """Called by Serve every few seconds; a detached actor that was lost is made again here."""
        for actor in self._ensure():
            await actor.status.remote()


steward: Any = serve.deployment(Steward, name="Steward")
