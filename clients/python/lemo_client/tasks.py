"""The result of a task, as it comes: like Celery's AsyncResult."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lemo_client.errors import TaskFailed, TaskTimeout

if TYPE_CHECKING:
    from lemo_client.client import AsyncLemo, Lemo

ENDED = ("SUCCESS", "FAILURE", "REVOKED")
ONE_WAIT_S = 20.0  # of one call; the server allows 30


class TaskResult:
    """Each look asks the server. It can be made again from its `id`: `lemo.result(id)`."""

    def __init__(self, lemo: Lemo, id: str) -> None:
        self._lemo, self.id = lemo, id

    def get(self) -> dict[str, Any]:
        """The whole task: state, result, error, attempts, times, progress, log. Raises Refused when it is unknown."""
        return self._lemo.get_task(self.id)

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        return str(self.get()["state"])

    @property
    def result(self) -> Any:
        """What it returned; None while it has not succeeded."""
        return self.get()["result"]

    def wait(self, timeout_s: float | None = None) -> Any:
        """What it returned, when it has ended. Raises TaskFailed, TaskTimeout."""
        wait = _Wait(self.id, timeout_s)
        while True:
            task = self._lemo.get_task(self.id, wait_s=wait.next_s())
            if task["state"] in ENDED:
                return _returned(task)

    def cancel(self) -> str:
        """Its state; of one that runs it follows."""
        return str(self._lemo.cancel_task(self.id)["state"])

    def __repr__(self) -> str:
        return f"TaskResult({self.id!r})"


class AsyncTaskResult:
    """As TaskResult, awaited."""

    def __init__(self, lemo: AsyncLemo, id: str) -> None:
        self._lemo, self.id = lemo, id

    async def get(self) -> dict[str, Any]:
        """As TaskResult.get."""
        return await self._lemo.get_task(self.id)

    async def state(self) -> str:
        """As TaskResult.state."""
        return str((await self.get())["state"])

    async def result(self) -> Any:
        """As TaskResult.result."""
        return (await self.get())["result"]

    async def wait(self, timeout_s: float | None = None) -> Any:
        """As TaskResult.wait."""
        wait = _Wait(self.id, timeout_s)
        while True:
            task = await self._lemo.get_task(self.id, wait_s=wait.next_s())
            if task["state"] in ENDED:
                return _returned(task)

    async def cancel(self) -> str:
        """As TaskResult.cancel."""
        return str((await self._lemo.cancel_task(self.id))["state"])

    def __repr__(self) -> str:
        return f"AsyncTaskResult({self.id!r})"


class _Wait:
    def __init__(self, id: str, timeout_s: float | None) -> None:
        self._id, self._timeout_s, self._asked = id, timeout_s, False
        self._until = None if timeout_s is None else time.monotonic() + timeout_s

    def next_s(self) -> float:
        """For how long the next call may wait. Raises TaskTimeout when the time is over, after one look at least."""
        left = ONE_WAIT_S if self._until is None else self._until - time.monotonic()
        if left <= 0 and self._asked:
            raise TaskTimeout(f"task {self._id} has not ended within {self._timeout_s} s; it goes on")
        self._asked = True
        return max(0.0, min(ONE_WAIT_S, left))


def _returned(task: Mapping[str, Any]) -> Any:
    if task["state"] != "SUCCESS":
        raise TaskFailed(task)
    return task["result"]
