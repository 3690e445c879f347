"""Where a slot says what it does, and its guard what it wants: in memory that both have, so no task costs a message."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from zlib import crc32

import orjson

SIZE = 4096
_HEAD = struct.Struct("=QQI")  # changes (odd: one is being written), tasks done, length of what follows
_ENDING = SIZE - 1  # a byte that the guard writes: end after this task
_CANCEL = struct.Struct("=I")  # and before it which task to cancel, by its token


@dataclass(frozen=True, slots=True)
class Held:
    """A task that runs: its claim's token, and by the monotonic clock since when and until when at the latest (s)."""

    id: str
    token: str
    name: str
    attempt: int
    since: float
    until: float


class Seat:
    """Made before the fork. One writer on each side."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SIZE)
        self._changes, self._done = 0, 0

    def hold(self, held: Held | None, done: int = 0) -> None:
        """By the slot, before it begins a task and after its end; `done`: how many it ended since the last call."""
        body = b"" if held is None else orjson.dumps(held)
        self._done += done
        _HEAD.pack_into(self._memory, 0, self._changes + 1, self._done, len(body))
        self._memory[_HEAD.size : _HEAD.size + len(body)] = body
        self._changes += 2
        _HEAD.pack_into(self._memory, 0, self._changes, self._done, len(body))

    def held(self) -> Held | None:
        """By the guard: what runs; None also in the moment in which it changes."""
        changes, _, length = _HEAD.unpack_from(self._memory)
        body = self._memory[_HEAD.size : _HEAD.size + length]
        if changes % 2 or not body or _HEAD.unpack_from(self._memory)[0] != changes:
            return None
        return Held(**orjson.loads(body))

    @property
    def done(self) -> int:
        """Tasks that have ended here."""
        return int(_HEAD.unpack_from(self._memory)[1])

    def ask_to_end(self) -> None:
        self._memory[_ENDING] = 1

    @property
    def ending(self) -> bool:
        return self._memory[_ENDING] == 1

    def ask_to_cancel(self, token: str) -> None:
        _CANCEL.pack_into(self._memory, _ENDING - _CANCEL.size, crc32(token.encode()))

    def cancelled(self, token: str) -> bool:
        return bool(_CANCEL.unpack_from(self._memory, _ENDING - _CANCEL.size)[0] == crc32(token.encode()))
