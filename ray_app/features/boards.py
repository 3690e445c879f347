"""Hot boards: the hot score and the sums of the last 1, 3, 7, 14 and 30 days by row, read outside requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ray_app.catalog.rows import FIRST
from ray_app.config import Features
from ray_app.features import hot
from ray_app.types import DAY_MS, Matrix, Rows, Scores

if TYPE_CHECKING:
    from redis.asyncio import Redis

DAYS = (1, 3, 7, 14, 30)
FORTNIGHT = DAYS.index(14)


@dataclass(frozen=True)
class Board:
    """`windows` float32 [len(DAYS), n]: sums of behaviour weights by row; `hot` float32 [n]: the hot score, the same
    sums faded by age. What is derived from them is the same for every visitor, and is made once."""

    windows: Matrix
    hot: Scores

    def covering(self, n: int) -> Board:
        """The same for a shelf of n rows; new rows have no behaviours."""
        have = self.windows.shape[1]
        if have == n:
            return self
        if have > n:
            return Board(self.windows[:, :n], self.hot[:n])
        return Board(np.pad(self.windows, ((0, 0), (0, n - have))), np.pad(self.hot, (0, n - have)))

    @cached_property
    def hottest(self) -> Rows:
        """Every row that is hot at all, best first; equal scores: the smaller row first."""
        some = np.flatnonzero(self.hot > 0)
        return some[np.argsort(-self.hot[some], kind="stable")].astype(np.int32)

    @cached_property
    def lift(self) -> Scores:
        """Root of one plus the last fortnight's sum."""
        return np.asarray(np.sqrt(1.0 + self.windows[FORTNIGHT]), np.float32)

    @cached_property
    def popularity(self) -> Matrix:
        """float32 [n, 2 len(DAYS) - 1]: logarithms of the sums, and whether the shorter of two windows runs ahead of
        the longer."""
        logs = np.log1p(self.windows)
        scaled = [np.log1p(self.windows[k + 1] * (DAYS[k] / DAYS[k + 1])) for k in range(len(DAYS) - 1)]
        return np.stack([*logs, *(logs[k] - scaled[k] for k in range(len(DAYS) - 1))], axis=1)


def windows(rows: Rows, at: NDArray[np.int64], weights: Scores, now: int, n: int) -> Matrix:
    """float32 [len(DAYS), n]: for each window the sum of `weights` of events not older than it; all of equal length."""
    age = now - at
    return np.stack([_sum(rows[keep], weights[keep], n) for keep in (age < d * DAY_MS for d in DAYS)])


def faded(ages_ms: NDArray[np.int64], weights: Scores, half_life_s: float) -> Scores:
    """float32, as long: what is left of each weight; half of it after each half-life."""
    return np.asarray(weights * np.exp2(-np.maximum(ages_ms, 0) / (half_life_s * 1000.0)), np.float32)


def board(at_row: tuple[Rows, NDArray[np.int64], Scores], now: int, n: int, half_life_s: float) -> Board:
    """From events as (rows, times in ms, weights), all of equal length."""
    rows, at, weights = at_row
    return Board(windows(rows, at, weights, now, n), _sum(rows, faded(now - at, weights, half_life_s), n))


def _sum(rows: Rows, weights: Scores, n: int) -> Scores:
    return np.bincount(rows, weights, minlength=n)[:n].astype(np.float32)


@dataclass
class _Buckets:
    """One tenant's buckets; items are numbered here, since an event may come before its item is on the shelf."""

    place: bytes = b""
    state: tuple[int, int, int, str] = (0, 0, 0, "")  # of the last refresh: bucket of the time, rows, items, epoch
    numbers: dict[str, int] = field(default_factory=dict)
    sums: dict[int, tuple[Rows, Scores]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # a shelf that comes may ask beside the one that is held

    def put(self, bucket: int, held: Mapping[bytes, bytes]) -> None:
        names = [self.numbers.setdefault(i.decode(), len(self.numbers)) for i in held]
        self.sums[bucket] = np.array(names, np.int32), np.array([int(w) for w in held.values()], np.float32)

    def board(self, rows_of: Mapping[str, int], n: int, now: int, settings: Features) -> Board:
        if not self.sums:
            return Board(np.zeros((len(DAYS), n), np.float32), np.zeros(n, np.float32))
        size_s = settings.hot_bucket_s
        at = np.concatenate([np.full(len(r), b * size_s * 1000, np.int64) for b, (r, _) in self.sums.items()])
        numbers = np.concatenate([r for r, _ in self.sums.values()])
        weights = np.concatenate([w for _, w in self.sums.values()])
        numbered = board((numbers, at, weights), now, len(self.numbers), settings.hot_half_life_s)
        rows = np.fromiter((rows_of.get(i, n) for i in self.numbers), np.int64, len(self.numbers))
        whole, hot = np.zeros((len(DAYS), n + 1), np.float32), np.zeros(n + 1, np.float32)
        whole[:, np.minimum(rows, n)], hot[np.minimum(rows, n)] = numbered.windows, numbered.hot
        return Board(whole[:, :n], hot[:n])


NONE = Board(np.zeros((len(DAYS), 0), np.float32), np.zeros(0, np.float32))


class Boards:
    """Call `refresh` every 2 s; it reads the buckets that changed since the last call."""

    def __init__(self, redis: Redis, prefix: Callable[[], str], settings: Features) -> None:
        """`prefix`: that of the live generation of the sums."""
        self._redis, self._prefix, self._settings = redis, prefix, settings
        self._buckets: dict[str, _Buckets] = {}
        self._boards: dict[str, dict[str, Board]] = {}  # by tenant and epoch: two while shelves move

    def of(self, tenant: str, n: int, epoch: str = FIRST.id) -> Board:
        """The last board, as wide as a shelf of n rows of this epoch; without any sum before the first `refresh`."""
        held = self._boards.setdefault(tenant, {})
        board = held.get(epoch) or NONE
        found = board.covering(n)
        if n > board.windows.shape[1] and epoch in held:  # a request that pinned fewer rows takes none from the others
            held[epoch] = found
        return found

    async def refresh(self, tenant: str, rows_of: Mapping[str, int], n: int, now: int, epoch: str = FIRST.id) -> None:
        """`rows_of`: item id -> row, of the shelf with n rows of this epoch."""
        buckets = self._buckets.setdefault(tenant, _Buckets())
        async with buckets.turn:
            changed, place = await self._changed(tenant, buckets)
            state = (now // 1000 // self._settings.hot_bucket_s, n, len(rows_of), epoch)
            if place == buckets.place and state == buckets.state:
                return  # the board would come out the same, and with it all that is derived from it
            await self._read(tenant, buckets, changed, now)
            buckets.place, buckets.state = place, state  # last: what could not be read is named again the next time
            others = [(e, b) for e, b in self._boards.get(tenant, {}).items() if e != epoch]
            self._boards[tenant] = {**dict(others[-1:]), epoch: buckets.board(rows_of, n, now, self._settings)}

    async def _read(self, tenant: str, buckets: _Buckets, changed: set[int], now: int) -> None:
        """Those of `changed` that are not too old; what has grown too old goes."""
        oldest = (now // 1000 - self._settings.hot_keep_s) // self._settings.hot_bucket_s
        for bucket in [b for b in buckets.sums if b < oldest]:
            del buckets.sums[bucket]
        wanted = sorted(b for b in changed if b >= oldest)
        async with self._redis.pipeline(transaction=False) as pipe:
            for b in wanted:
                pipe.hgetall(hot.key(self._prefix(), tenant, hot.ALL, b))
            for b, held in zip(wanted, await pipe.execute(), strict=True):
                buckets.put(b, held)

    async def _changed(self, tenant: str, buckets: _Buckets) -> tuple[set[int], bytes]:
        """Buckets named by the feed since the last call, and its end; all of them the first time and when the feed
        was trimmed."""
        feed = hot.feed(self._prefix(), tenant)
        if buckets.place and (buckets.place == b"0-0" or await self._redis.xrange(feed, buckets.place, buckets.place)):
            found: Any = await self._redis.xread({feed: buckets.place})
            entries = found[0][1] if found else []
            changed = {b for _, fields in entries for b in orjson.loads(fields[b"buckets"])}
            return changed, entries[-1][0] if entries else buckets.place
        newest: Any = await self._redis.xrevrange(feed, count=1)
        pattern = hot.key(self._prefix(), tenant, hot.ALL, 0).removesuffix("0") + "*"
        buckets.sums.clear()
        every = {int(k.rsplit(b":", 1)[1]) async for k in self._redis.scan_iter(pattern, count=1000)}
        return every, newest[0][0] if newest else b"0-0"
