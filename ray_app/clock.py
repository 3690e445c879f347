"""Time and ids as arguments: the core never asks the machine itself."""

from __future__ import annotations

import time
import uuid
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class FixedClock:
    """A clock that is moved by hand: for tests, and for measuring where no time may run out."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000

    def pass_s(self, seconds: float) -> None:
        self.at += int(seconds * 1000)


def new_id() -> str:
    """32 hex digits, random."""
    return uuid.uuid4().hex
