"""Channels that cross the network: asked at the same time, waited for within the budget, left alone while they hang."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ray_app.clock import Clock
from ray_app.features.view import Moment
from ray_app.recommend.request import Request
from ray_app.types import Degraded, Mask, Scored, Visitor

Ask = Callable[[Visitor, int, Mask, Moment], Awaitable[Scored]]


@dataclass
class Breaker:
    """Opens after `failures` in a row, and lets one call through every `rest_s` until one succeeds."""

    clock: Clock
    failures: int = 3
    rest_s: float = 5.0
    _failed: int = 0
    _opened_at: float = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now; `succeeded` or `failed` is to tell how it ended."""
        if self._failed < self.failures:
            return True
        if self.clock.monotonic() - self._opened_at < self.rest_s:
            return False
        self._opened_at = self.clock.monotonic()
        return True

    def succeeded(self) -> None:
        self._failed = 0

    def failed(self) -> None:
        self._failed += 1
        if self._failed >= self.failures:
            self._opened_at = self.clock.monotonic()


@dataclass(frozen=True)
class Remote:
    """One such channel; `most_s` is its own time budget."""

    ask: Ask
    breaker: Breaker
    most_s: float = 0.03


async def gather(channels: Mapping[str, Remote], r: Request) -> dict[str, Scored]:
    """What the channels of the request's scenario found in time; the others are named in its `budget.degraded`."""
    wanted = [name for name in r.scenario.channels if name in channels]
    answers = await asyncio.gather(*(_within(name, channels[name], r) for name in wanted))
    return {name: a for name, a in zip(wanted, answers, strict=True) if a is not None}


async def _within(name: str, channel: Remote, r: Request) -> Scored | None:
    if not channel.breaker.allows():
        r.budget.degraded.append(Degraded("recall", "left alone after repeated failures", name))
        return None
    try:
        async with asyncio.timeout(min(channel.most_s, r.budget.left_s())):
            found = await channel.ask(r.visitor, r.scenario.channels[name].quota, r.fresh, r.moment)
    except Exception as e:
        channel.breaker.failed()
        why = "took too long" if isinstance(e, TimeoutError) else str(e)[:200]
        r.budget.degraded.append(Degraded("recall", why, name))
        return None
    channel.breaker.succeeded()
    return _allowed(found, r.fresh)


def _allowed(found: Scored, allowed: Mask) -> Scored:
    """Another process may be behind, or ahead, of the shelf that this request has pinned."""
    keep = (found.rows >= 0) & (found.rows < len(allowed))
    keep[keep] = allowed[found.rows[keep]]
    return Scored(found.channel, found.rows[keep], found.scores[keep])
