"""Hot boards: sums of the last 1, 3, 7, 14 and 30 days by row, read outside requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ray_app.config import Features
from ray_app.features import hot
from ray_app.types import Matrix, Rows, Scores

if TYPE_CHECKING:
    from redis.asyncio import Redis

DAYS = (1, 3, 7, 14, 30)
DAY_MS = 86_400_000
WEEK = DAYS.index(7)


@dataclass(frozen=True)
class Board:
    """`windows` float32 [len(DAYS), n]: sums of behaviour weights by row."""

    windows: Matrix

    def covering(self, n: int) -> Board:
        """The same for a shelf of n rows; new rows have no behaviours."""
        have = self.windows.shape[1]
        if have == n:
            return self
        if have > n:
            return Board(self.windows[:, :n])
        return Board(np.pad(self.windows, ((0, 0), (0, n - have))))

    @property
    def hot(self) -> Scores:
        """The last week, ties broken by the last month."""
        return np.asarray(self.windows[WEEK] + 1e-3 * self.windows[-1], np.float32)


def windows(rows: Rows, at: NDArray[np.int64], weights: Scores, now: int, n: int) -> Matrix:
    """float32 [len(DAYS), n]: for each window the sum of `weights` of events not older than it; all of equal length."""
    age = now - at
    return np.stack([_sum(rows[keep], weights[keep], n) for keep in (age < d * DAY_MS for d in DAYS)])


def _sum(rows: Rows, weights: Scores, n: int) -> Scores:
    return np.bincount(rows, weights, minlength=n)[:n].astype(np.float32)


@dataclass
class _Buckets:
    """One tenant's buckets; items are numbered here, since an event may come before its item is on the shelf."""

    place: bytes = b""
    numbers: dict[str, int] = field(default_factory=dict)
    sums: dict[int, tuple[Rows, Scores]] = field(default_factory=dict)

    def put(self, bucket: int, held: Mapping[bytes, bytes]) -> None:
        names = [self.numbers.setdefault(i.decode(), len(self.numbers)) for i in held]
        self.sums[bucket] = np.array(names, np.int32), np.array([int(w) for w in held.values()], np.float32)

    def windows(self, rows_of: Mapping[str, int], n: int, now: int, size_s: int) -> Matrix:
        if not self.sums:
            return np.zeros((len(DAYS), n), np.float32)
        at = np.concatenate([np.full(len(r), b * size_s * 1000, np.int64) for b, (r, _) in self.sums.items()])
        numbers = np.concatenate([r for r, _ in self.sums.values()])
        weights = np.concatenate([w for _, w in self.sums.values()])
        numbered = windows(numbers, at, weights, now, len(self.numbers))
        rows = np.fromiter((rows_of.get(i, n) for i in self.numbers), np.int64, len(self.numbers))
        whole = np.zeros((len(DAYS), n + 1), np.float32)
        whole[:, np.minimum(rows, n)] = numbered
        return whole[:, :n]


class Boards:
    """Call `refresh` every 2 s; it reads the buckets that changed since the last call."""

    def __init__(self, redis: Redis, prefix: str, settings: Features) -> None:
        self._redis, self._prefix, self._settings = redis, prefix, settings
        self._buckets: dict[str, _Buckets] = {}
        self._boards: dict[str, Board] = {}

    def of(self, tenant: str, n: int) -> Board:
        board = self._boards.get(tenant)
        return (board or Board(np.zeros((len(DAYS), 0), np.float32))).covering(n)

    async def refresh(self, tenant: str, rows_of: Mapping[str, int], n: int, now: int) -> None:
        """`rows_of`: item id -> row, of the shelf with n rows."""
        buckets = self._buckets.setdefault(tenant, _Buckets())
        oldest = (now // 1000 - self._settings.hot_keep_s) // self._settings.hot_bucket_s
        changed = await self._changed(tenant, buckets)
        for bucket in [b for b in buckets.sums if b < oldest]:
            del buckets.sums[bucket]
        wanted = sorted(b for b in changed if b >= oldest)
        async with self._redis.pipeline(transaction=False) as pipe:
            for b in wanted:
                pipe.hgetall(hot.key(self._prefix, tenant, hot.ALL, b))
            for b, held in zip(wanted, await pipe.execute(), strict=True):
                buckets.put(b, held)
        self._boards[tenant] = Board(buckets.windows(rows_of, n, now, self._settings.hot_bucket_s))

    async def _changed(self, tenant: str, buckets: _Buckets) -> set[int]:
        """Buckets named by the feed since the last call; all of them the first time and when the feed was trimmed."""
        feed = hot.feed(self._prefix, tenant)
        if buckets.place and (buckets.place == b"0-0" or await self._redis.xrange(feed, buckets.place, buckets.place)):
            found: Any = await self._redis.xread({feed: buckets.place})
            entries = found[0][1] if found else []
            if entries:
                buckets.place = entries[-1][0]
            return {b for _, fields in entries for b in orjson.loads(fields[b"buckets"])}
        newest: Any = await self._redis.xrevrange(feed, count=1)
        buckets.place = newest[0][0] if newest else b"0-0"
        pattern = hot.key(self._prefix, tenant, hot.ALL, 0).removesuffix("0") + "*"
        buckets.sums.clear()
        return {int(k.rsplit(b":", 1)[1]) async for k in self._redis.scan_iter(pattern, count=1000)}
