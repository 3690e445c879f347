"""State of the flows in Redis: deltas and position in one Lua call, applied only at the expected position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from ray_app.events.base import Place
from ray_app.streams.control import Moved

if TYPE_CHECKING:
    from redis.asyncio import Redis

Argument = str | bytes | int | float
REPLACED = -1  # the position of a generation that no writer may advance any more
SCRIPT = (Path(__file__).parent / "advance.lua").read_text()


@dataclass(frozen=True, slots=True)
class Op:
    """One Redis command. With `once`, an event id, it is left out when that id was applied within the repeat window;
    all operations of one event carry the same id and stand in one batch. `at` is the event's appended_at (ms)."""

    command: tuple[Argument, ...]
    once: str = ""
    at: int = 0

    def packed(self) -> tuple[Any, ...]:
        return self.once, self.at, *self.command

    def since(self, at: int) -> Op:
        """The same, its id remembered as of `at` at the earliest."""
        return replace(self, at=at) if self.at < at else self


@dataclass(frozen=True, slots=True)
class Sums:
    """What many events add to hashes, as one operation: event k, unless its id `once[k]` was applied within the repeat
    window, adds `by[k]` to the field of `targets[of[k]]` in each of its keys. A target is (field, place in `keys`,
    ...); an id stands at most once in a batch; `at` as in Op. Each field of each key is written once, however many
    events add to it."""

    keys: Sequence[str]
    targets: Sequence[tuple[str | int, ...]]
    once: Sequence[str]
    at: Sequence[int]
    of: Sequence[int]
    by: Sequence[int]

    def packed(self) -> tuple[Any, ...]:
        at = [str(one) for one in self.at]  # Lua would write each number as text for each command
        return self.keys, self.targets, self.once, at, self.of, self.by

    def since(self, at: int) -> Sums:
        """The same, its ids remembered as of `at` at the earliest."""
        return replace(self, at=[max(at, one) for one in self.at])


class State:
    """Positions and deltas of one flow. A refused writer gets the stored position and seeks there."""

    def __init__(self, redis: Redis, prefix: str, flow: str, window_s: float, script: str = SCRIPT) -> None:
        self._redis, self._prefix, self._flow = redis, prefix, flow
        self._window_ms = int(window_s * 1000)
        self._advance = redis.register_script(script)

    async def positions(self, places: Iterable[Place]) -> dict[Place, int]:
        """Where the flow stands in each place. Raises Moved when this generation of the state was replaced."""
        wanted = list(places)
        held = await self._redis.mget([position_key(self._prefix, self._flow, p) for p in wanted]) if wanted else []
        return {place: self._checked(int(at or 0)) for place, at in zip(wanted, held, strict=True)}

    async def begin(self, place: Place, first: int) -> None:
        """A generation that starts in the middle of a place, where the log has nothing before `first`."""
        began = Op(("SET", self._began(place), first))
        await self.advance(place, (0, first), 0, (began,))

    async def began(self, place: Place) -> int:
        """The first position of the place that this generation has read."""
        return int(await self._redis.get(self._began(place)) or 0)

    def _began(self, place: Place) -> str:
        return f"{self._prefix}:began:{self._flow}:{place[0]}:{place[1]}"

    async def advance(self, place: Place, span: tuple[int, int], appended_at: int, ops: Sequence[Op | Sums]) -> int:
        """Apply `ops` and move from span[0] to span[1]; returns where the flow now stands, span[1] when applied.
        Raises Moved when this generation of the state was replaced."""
        keys = [
            position_key(self._prefix, self._flow, place),
            f"{self._prefix}:once:{self._flow}:{place[0]}:{place[1]}",
        ]
        packed = msgpack.packb([op.packed() for op in ops], use_bin_type=False)
        at, _ = await self._advance(keys=keys, args=[*span, appended_at, self._window_ms, packed])
        return self._checked(int(at))

    def _checked(self, at: int) -> int:
        if at == REPLACED:
            raise Moved(f"the state of flow {self._flow!r} was rebuilt; its new generation is read from now on")
        return at


def position_key(prefix: str, flow: str, place: Place) -> str:
    return f"{prefix}:position:{flow}:{place[0]}:{place[1]}"
