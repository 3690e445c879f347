"""State of the flows in Redis: deltas and position in one Lua call, applied only at the expected position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack

if TYPE_CHECKING:
    from redis.asyncio import Redis

Argument = str | bytes | int | float
SCRIPT = (Path(__file__).parent / "advance.lua").read_text()


@dataclass(frozen=True, slots=True)
class Op:
    """One Redis command. With `once`, an event id, it is left out when that id was applied within the repeat window;
    all operations of one event carry the same id and stand in one batch. `at` is the event's appended_at (ms)."""

    command: tuple[Argument, ...]
    once: str = ""
    at: int = 0


class State:
    """Positions and deltas of one flow. A refused writer gets the stored position and seeks there."""

    def __init__(self, redis: Redis, prefix: str, flow: str, window_s: float, script: str = SCRIPT) -> None:
        self._redis, self._prefix, self._flow = redis, prefix, flow
        self._window_ms = int(window_s * 1000)
        self._advance = redis.register_script(script)

    async def position(self, topic: str, partition: int) -> int:
        return int(await self._redis.get(position_key(self._prefix, self._flow, topic, partition)) or 0)

    async def advance(
        self, topic: str, partition: int, span: tuple[int, int], appended_at: int, ops: Sequence[Op]
    ) -> int:
        """Apply `ops` and move from span[0] to span[1]; returns where the flow now stands, span[1] when applied."""
        keys = [
            position_key(self._prefix, self._flow, topic, partition),
            f"{self._prefix}:once:{self._flow}:{topic}:{partition}",
        ]
        packed = msgpack.packb([(op.once, op.at, *op.command) for op in ops], use_bin_type=False)
        at, _ = await self._advance(keys=keys, args=[*span, appended_at, self._window_ms, packed])
        return int(at)


def position_key(prefix: str, flow: str, topic: str, partition: int) -> str:
    return f"{prefix}:position:{flow}:{topic}:{partition}"
