"""What a call raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class LemoError(Exception):
    """Of every error of this package."""


class Unreachable(LemoError):
    """Nothing answered, or not in time. Whether a write was taken is unknown, unless it is sent again and answered."""


class Refused(LemoError):
    """Lemo answered with an error: `status` of HTTP, `reason` to match on, `metadata` naming field, value and what is
    allowed, and `body` whole."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("message") or f"status {status}"))
        self.status, self.body = status, body
        self.reason = str(body.get("reason") or "")
        self.metadata: Mapping[str, str] = body.get("metadata") or {}


class TaskFailed(LemoError):
    """A task that was waited for ended as FAILURE or REVOKED; `task` is the whole of it."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        super().__init__(f"task {task['id']} ended as {task['state']}: {task['error']}")
        self.task = task


class TaskTimeout(LemoError, TimeoutError):
    """A task has not ended in the time that was given; it goes on."""
