"""Bulk writes: each element is accepted or rejected on its own; the log has what is accepted before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.exceptions import RedisError

from ray_app.errors import InvalidField, LemoError, Unavailable
from ray_app.events.base import Appended, Entry, EventLog
from ray_app.serving.app import App
from ray_app.streams.applied import wait_applied

T = TypeVar("T")
MOST = 1000
WAIT_S = 10.0


class NotYetReadable(LemoError):
    """The write is durable, but a flow has not applied it in time."""

    status, code, reason = 504, "DEADLINE_EXCEEDED", "NOT_YET_READABLE"


class AllRejected(LemoError):
    """No element of a bulk write was accepted; `answer` says why for each."""

    status, code, reason = 400, "INVALID_ARGUMENT", "ALL_REJECTED"

    def __init__(self, answer: dict[str, Any]) -> None:
        first = answer["rejected"][0]
        super().__init__(
            f"none of {len(answer['rejected'])} elements was accepted; the first: {first['message']}",
            **first["metadata"],
        )
        self.answer = answer


@dataclass
class Sorted:
    """Accepted values, and the rejections as the wire has them."""

    accepted: list[Any] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        """Raises AllRejected when nothing was accepted."""
        found = {"accepted": len(self.accepted), "rejected": self.rejected}
        if not self.accepted:
            raise AllRejected(found)
        return found


def sort(field: str, elements: object, parse: Callable[[Mapping[str, Any]], T]) -> Sorted:
    """Raises InvalidField when `elements` is not a list of 1 to MOST."""
    if isinstance(elements, str) or not isinstance(elements, Sequence) or not 0 < len(elements) <= MOST:
        shown = f"a list of {len(elements)}" if isinstance(elements, Sequence) else elements
        raise InvalidField(field, shown, f"a list of 1 to {MOST} elements")
    found = Sorted()
    for index, raw in enumerate(elements):
        try:
            found.accepted.append(parse(raw))
        except LemoError as e:
            found.rejected.append(
                {"index": index, "reason": e.reason, "message": e.message, "metadata": dict(e.metadata)}
            )
    return found


async def append(log: EventLog, topic: str, entries: Sequence[Entry]) -> list[Appended]:
    return await log.append(topic, entries) if entries else []


async def wait_readable(app: App, tenant: str, flow: str, appended: Sequence[Appended]) -> None:
    """Until `flow` has applied what was appended, and this replica's shelf has it. Raises NotYetReadable when that
    takes longer than WAIT_S or cannot be seen, since the state store is away."""
    try:
        async with asyncio.timeout(WAIT_S):
            await app.prefixes.refresh()  # a flow that was rewound stands elsewhere
            if not await wait_applied(app.redis, app.prefixes.of(flow), (flow,), appended, WAIT_S):
                raise TimeoutError
            if flow == "items":
                await app.shelves.caught_up(tenant)
    except (TimeoutError, RedisError, OSError, Unavailable) as e:
        why = f"flow {flow!r} is behind" if isinstance(e, TimeoutError) else f"a store is away: {type(e).__name__}"
        raise NotYetReadable(f"the write is accepted and kept, but cannot be read yet: {why}") from None
