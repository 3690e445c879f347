"""The port EventLog: topics of ordered partitions, read from a position."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ray_app.errors import LemoError, Unavailable

SUFFIX = ".dlq"  # what a topic's name ends in where its dead letters are kept


class PositionLost(LemoError):
    """Retention has removed entries that a flow had not read."""

    reason = "POSITION_LOST"

    def __init__(self, topic: str, partition: int, position: int, first: int) -> None:
        super().__init__(
            f"position {position} of {topic}/{partition} is gone; the first that is left is {first}: "
            f"{first - position} entries were lost to retention. Raise events.retention_s",
            topic=topic, partition=str(partition), position=str(position), first=str(first),
        )  # fmt: skip
        self.first = first


class PlaceUnavailable(Unavailable):
    """One topic, or one partition of it, cannot be read or written; others may."""


def partition_of(key: str, partitions: int) -> int:
    """The same in every process and adapter of ours."""
    return zlib.crc32(key.encode()) % partitions


Place = tuple[str, int]
"""A topic and a partition of it."""


@dataclass(frozen=True, slots=True)
class Topics:
    """What a flow reads: topics by their names, and every topic whose whole name matches `pattern` (a regular
    expression), also one that is made later."""

    names: tuple[str, ...]
    pattern: str = ""

    def among(self, existing: Iterable[str]) -> list[str]:
        """The named ones, whether they exist or not, then the matching ones of `existing`."""
        found = [t for t in existing if re.fullmatch(self.pattern, t)] if self.pattern else []
        return [*self.names, *sorted(set(found) - set(self.names))]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is appended: entries with one key keep their order."""

    key: str
    body: bytes


class Logged(msgspec.Struct, frozen=True, gc=False):
    """An entry in the log; `appended_at` is the log's own time in ms and never goes back within a partition.

    A Struct that the garbage collector does not visit, since it is made for every event that is read: a third of what a
    NamedTuple costs."""

    topic: str
    partition: int
    position: int
    appended_at: int
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an entry went: it is read once a flow's position is greater than `position`."""

    topic: str
    partition: int
    position: int


class EventLog(Protocol):
    """Durable, ordered by partition, at least once. Positions are dense integers from 0 in the embedded log;
    in general only their order counts.

    Raises Unavailable while the log cannot be reached, and then nothing was appended that the caller may count on;
    PlaceUnavailable where that is known of one topic or partition only.
    """

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        """Append all, in order; returns when they are durable."""
        ...

    async def topics(self) -> list[str]:
        """Names of those that exist."""
        ...

    async def partitions(self, topic: str) -> int:
        """How many; a topic that is absent is made."""
        ...

    async def read(self, topic: str, partition: int, position: int, limit: int, wait_s: float = 0.0) -> list[Logged]:
        """Up to `limit` entries from `position` on, waiting up to `wait_s` for the first.

        Raises PositionLost when retention has removed `position`; the error names the first position that is left.
        """
        ...

    async def wait(self, places: Mapping[Place, int], wait_s: float) -> None:
        """Return when an entry may stand at or after one of the positions, at the latest after `wait_s`."""
        ...

    async def first(self, topic: str, partition: int) -> int:
        """The first position that retention has left; 0 of an absent topic."""
        ...

    async def end(self, topic: str, partition: int) -> int:
        """One past the last entry."""
        ...

    async def ends(self, topic: str) -> list[int]:
        """The same of each partition, in one call."""
        ...

    async def tell_group(self, group: str, topic: str, partition: int, position: int) -> None:
        """Publish a flow's position for lag tools; never read back by a flow."""
        ...

    async def told(self, group: str, topic: str, partition: int) -> int:
        """What `tell_group` published last, as lag tools see it; 0 before."""
        ...

    async def version(self) -> str:
        """The log's name and version, e.g. "Kafka 4.1"; one round trip. Raises Unavailable."""
        ...

    async def close(self) -> None: ...
