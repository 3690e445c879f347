"""Exceptions from outside into a handler: at its soft limit, and when its task is cancelled."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray_app.tasks.seat import Seat
from ray_app.tasks.work import Revoked, SoftLimit

CANCEL = signal.SIGUSR1


class Thrown:
    """Awaits a coroutine, and throws into it what `throw` is given, where a cancellation would throw CancelledError."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._why: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None

    def throw(self, why: BaseException) -> None:
        """In the loop's thread."""
        if self._task is not None and not self._task.done():
            self._why = why
            self._task.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        self._task = asyncio.current_task()
        inner, thrown = self._coroutine.__await__(), None
        while True:
            try:
                awaited = inner.throw(thrown) if thrown is not None else next(inner)
            except StopIteration as e:
                return e.value
            thrown = None
            try:
                yield awaited
            except asyncio.CancelledError as e:
                thrown, self._why = self._why or e, None
                if self._task is not None and not isinstance(thrown, asyncio.CancelledError):
                    self._task.uncancel()
            except BaseException as e:  # what it waited for failed: its own matter
                thrown = e


class Interrupts:
    """Of a slot's main thread: signals become exceptions, but only inside `open(token)`. In another thread, where a
    test may run a slot, no signal can be set, and nothing interrupts."""

    def __init__(self, seat: Seat) -> None:
        self._seat, self._token, self._revoked = seat, "", ""
        self.can = threading.current_thread() is threading.main_thread()
        if self.can:
            signal.signal(signal.SIGALRM, self._soft)
            signal.signal(CANCEL, self._cancel)

    def _soft(self, number: int, frame: FrameType | None) -> None:
        if self._token:
            raise SoftLimit("the attempt has run for its soft limit")

    def _cancel(self, number: int, frame: FrameType | None) -> None:
        self._revoke()

    def _revoke(self) -> None:
        """Once for each token: its handler may take its time to clean up."""
        if self._token and self._token != self._revoked and self._seat.cancelled(self._token):
            self._revoked = self._token
            raise Revoked("the task was cancelled")

    @contextmanager
    def open(self, token: str) -> Iterator[None]:
        try:
            self._token = token
            self._revoke()
            yield
        finally:
            self._token = ""

    def alarm(self, after_s: float) -> None:
        """SoftLimit after this; 0: none."""
        if self.can:
            signal.setitimer(signal.ITIMER_REAL, after_s)
