"""A request's time: what is left of it, where it went, and which stage was cut short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray_app.clock import Clock
from ray_app.types import Degraded


class Budget:
    """`stages`: milliseconds by stage, in order. `degraded` collects what was left out, `versions` those by which a
    stage in another process has answered."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._ends = clock.monotonic() + seconds
        self.stages: dict[str, float] = {}
        self.degraded: list[Degraded] = []
        self.versions: dict[str, str] = {}

    def left_s(self) -> float:
        """Seconds, 0 when the time is over."""
        return max(0.0, self._ends - self._clock.monotonic())

    def left(self, channel: str) -> bool:
        """False, and noted, when the time is over."""
        if self._clock.monotonic() < self._ends:
            return True
        self.degraded.append(Degraded("recall", "the time budget is spent", channel))
        return False

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Notes in `stages` how long its body took."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self.stages[name] = round((self._clock.monotonic() - began) * 1000, 3)
