"""Reads ahead of every place that is read, in bounded memory.

Fetches are sent by ourselves over aiokafka's client and not by its consumer: that makes a record of eleven fields for
each entry, drops what it has read of all places when one more is assigned, and hides why nothing comes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from aiokafka.errors import KafkaError, OffsetOutOfRangeError, StaleMetadata, for_code
from aiokafka.protocol.fetch import FetchRequest

from ray_app.cancel import cancel
from ray_app.errors import Unavailable
from ray_app.events.base import Appended, Logged, Place, PlaceUnavailable, PositionLost
from ray_app.events.kafka_client import READ_COMMITTED, RETRY_S, Cluster, leader, reason
from ray_app.events.kafka_records import unpack
from ray_app.events.kafka_topics import EARLIEST, LATEST, Directory

logger = logging.getLogger(__name__)
AHEAD_BYTES, LEAST_AHEAD_BYTES = 12 << 20, 128 << 10  # read ahead in all places together; in one at least
FETCH_BYTES, PLACE_BYTES = 2 << 20, 1 << 20  # of one answer, of one place in it; a larger entry comes nevertheless
WAIT_MS, BUSY_WAIT_MS = 100, 25  # how long a broker may wait for an entry: shorter while some place takes none
FRESH_S = 1.0  # an answer that nothing follows holds for this long
FILL_S = 0.5  # a batch that is not full waits this long for entries that are known to follow
READ_S = 5.0  # a read gives up after this without an answer
SILENT_S = 1.0  # ... and after this once a fetch has failed: another broker may lead the place by then
FORGET_S = 30.0  # a place that nobody has read for this long
MOST_RETRY_S = 1.0
POSITION = attrgetter("position")


@dataclass(slots=True)
class _Ahead:
    """What is read ahead of one place: all entries in [position, next). They go when a read at a later position shows
    that they were applied."""

    position: int
    next: int
    entries: list[Logged] = field(default_factory=list)
    bytes: int = 0
    limit: int = 0  # entries of a whole batch
    end: int = -1  # of the partition, when it was last heard of
    heard_at: float = float("-inf")
    silent_since: float | None = None  # no broker leads it, or its broker has not answered since
    why: str = ""
    used_at: float = 0.0
    outside: bool = False  # the broker has no such position
    beyond_until: float = float("-inf")  # ... since the log ends before it; looked at again then
    trouble: str = ""
    trouble_at: float = 0.0

    def move(self, position: int) -> None:
        """Let go of what lies before `position`."""
        done = bisect_left(self.entries, position, key=POSITION)
        if done:
            self.bytes = self.bytes * (len(self.entries) - done) // len(self.entries)
            del self.entries[:done]
        self.position = position

    def empty(self, now: float) -> bool:
        """Nothing stands at the position, as the broker said just now."""
        at_end = self.next >= self.end and now - self.heard_at < FRESH_S
        return not self.entries and (at_end or self.beyond_until > now)


class Reader:
    def __init__(self, cluster: Cluster, directory: Directory) -> None:
        self._cluster, self._directory = cluster, directory
        self._ahead: dict[Place, _Ahead] = {}
        self._fetching: dict[int | None, asyncio.Task[None]] = {}  # by broker; None: those whose leader is unknown
        self._news = asyncio.Event()
        self._turns: dict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)  # who reads one place takes turns

    async def read(self, place: Place, position: int, limit: int, wait_s: float) -> list[Logged]:
        """As EventLog.read, of a place that exists. A read at one position again gives the same entries again."""
        async with self._turns[place]:
            await self._cluster.known(place[0])
            return await self._read(place, position, limit, wait_s)

    async def _read(self, place: Place, position: int, limit: int, wait_s: float) -> list[Logged]:
        began = time.monotonic()
        while True:
            ahead, news = self._at(place, position), self._news
            ahead.limit = limit
            if ahead.outside:
                await self._judge(place, ahead)
            now = time.monotonic()
            until = self._until(ahead, limit, now, began, wait_s)
            if now < until:
                await self._start()
                await _within(news, until - now)
            elif ahead.entries or ahead.empty(now):
                return ahead.entries[:limit]
            else:
                await self._start()
                raise self._silent(place, ahead)

    def _silent(self, place: Place, ahead: _Ahead) -> PlaceUnavailable:
        """When no broker answers at all, they are looked for anew."""
        if all(a.heard_at < time.monotonic() - READ_S for a in self._ahead.values()):
            self._cluster.drop()
        why = f"has no answer for {place[0]}/{place[1]}: {ahead.why or f'none in {READ_S} s'}"
        return PlaceUnavailable(f"Kafka at {self._cluster.shown} {why}")

    def _until(self, ahead: _Ahead, limit: int, now: float, began: float, wait_s: float) -> float:
        """When the read ends, unless something comes before. Raises PlaceUnavailable for a place in trouble. One that
        was silent before is not waited for again: others would wait with it."""
        if ahead.entries:
            enough = len(ahead.entries) >= limit or ahead.next >= ahead.end or not self._has_room(ahead)
            return now if enough else began + FILL_S
        trouble, ahead.trouble = ahead.trouble, ""
        if trouble and now - ahead.trouble_at < FRESH_S:
            raise PlaceUnavailable(f"Kafka at {self._cluster.shown}: {trouble}")
        if ahead.empty(now):
            return began + wait_s
        latest = max(began, ahead.heard_at) + READ_S
        return latest if ahead.silent_since is None else min(latest, ahead.silent_since + SILENT_S)

    async def wait(self, places: Mapping[Place, int], wait_s: float) -> bool:
        """As EventLog.wait, for places that exist; False when the time ended it."""
        until = time.monotonic() + wait_s
        for topic in {t for t, _ in places}:
            await self._cluster.known(topic)
        while True:
            news, now = self._news, time.monotonic()
            held = [self._at(place, position) for place, position in places.items()]
            if any(a.entries or a.trouble or (a.outside and a.beyond_until <= now) for a in held):
                return True
            if now >= until:
                return False
            await self._start()
            await _within(news, until - now)

    def appended(self, done: Iterable[Appended]) -> None:
        """What this process appends is read by it at once."""
        for a in done:
            if ahead := self._ahead.get((a.topic, a.partition)):
                ahead.end = max(ahead.end, a.position + 1)

    async def close(self) -> None:
        await cancel(self._fetching.values())
        self._ahead.clear()

    def _at(self, place: Place, position: int) -> _Ahead:
        ahead = self._ahead.get(place)
        if ahead is None or not ahead.position <= position <= ahead.next:
            ahead = self._ahead[place] = _Ahead(position, position)
        ahead.move(position)
        ahead.used_at = time.monotonic()
        return ahead

    async def _judge(self, place: Place, ahead: _Ahead) -> None:
        """Raises PositionLost; or finds that the log ends before the position (it was made again, or restored from an
        older copy), and then there is nothing to read until it has grown."""
        now = time.monotonic()
        if now < ahead.beyond_until:
            return
        topic, partition = place
        (first,) = await self._directory.offsets(topic, [partition], EARLIEST)
        (end,) = await self._directory.offsets(topic, [partition], LATEST)
        if ahead.position < first:
            raise PositionLost(topic, partition, ahead.position, first)
        if ahead.position <= end:
            ahead.outside = False
            return
        if ahead.beyond_until < 0:
            logger.warning(
                f"position {ahead.position} of {topic}/{partition} lies beyond its end, {end}: the topic was made "
                "again or restored. Nothing is read there until it has grown; from its beginning: lemo stream rewind"
            )
        ahead.beyond_until = now + FRESH_S

    def _has_room(self, ahead: _Ahead) -> bool:
        """While all together have, and it has less than a batch in hand and one more; in any case for a little or a
        whole batch: a flow rests after one that is not."""
        if ahead.bytes < LEAST_AHEAD_BYTES or (len(ahead.entries) < ahead.limit and ahead.bytes < PLACE_BYTES):
            return True
        wanted = ahead.bytes < 2 * PLACE_BYTES or len(ahead.entries) < 2 * ahead.limit
        return wanted and self._held() < AHEAD_BYTES

    def _held(self) -> int:
        return sum(a.bytes for a in self._ahead.values())

    async def _start(self) -> None:
        """Fetch wherever there is room; what is fetched already goes on."""
        client = await self._cluster.client()
        for node in {self._leader(client, place) for place, ahead in self._ahead.items() if self._wanted(ahead)}:
            task = self._fetching.get(node)
            if task is None or task.done():
                self._fetching[node] = asyncio.create_task(self._fetch_from(node))

    async def _restart(self) -> None:
        """Others may lead now."""
        with suppress(Unavailable):
            await self._start()

    def _wanted(self, ahead: _Ahead) -> bool:
        return not ahead.outside and not ahead.trouble and self._has_room(ahead)

    def _leader(self, client: Any, place: Place) -> int | None:
        try:
            return leader(client, *place)
        except StaleMetadata:
            return None

    async def _fetch_from(self, node: int | None) -> None:
        """Goes on while that broker leads a place that is read and has room; a slow reader stops it that way."""
        pause_s = RETRY_S
        while True:
            try:
                if not await self._fetch(node):
                    return
                pause_s = RETRY_S
            except (KafkaError, Unavailable) as e:
                logger.debug("a fetch is tried again: %s", reason(e))
                self._cluster.refresh()
                await asyncio.sleep(pause_s)
                pause_s = min(MOST_RETRY_S, pause_s * 2)
                await self._restart()

    async def _fetch(self, node: int | None) -> bool:
        """One answer of that broker; False when nothing is wanted of it. Raises KafkaError when it no longer leads what
        it led."""
        client = await self._cluster.client()
        led = {p: a for p, a in self._read_lately().items() if self._leader(client, p) == node}
        wanted = {p: a for p, a in led.items() if self._wanted(a)}
        if not wanted:
            return False
        asked = {p: a.next for p, a in wanted.items()}
        try:
            if node is None:
                raise StaleMetadata("no broker leads it")
            request = self._request(wanted, WAIT_MS if len(wanted) == len(led) else BUSY_WAIT_MS)
            answer = await client.send(node, request)
        except KafkaError as e:
            self._miss(wanted.values(), e)
            raise
        self._take(answer, asked)
        return True

    def _miss(self, those: Iterable[_Ahead], e: KafkaError) -> None:
        for ahead in those:
            ahead.why = reason(e)
            ahead.silent_since = time.monotonic() if ahead.silent_since is None else ahead.silent_since
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _read_lately(self) -> dict[Place, _Ahead]:
        before = time.monotonic() - FORGET_S
        self._ahead = {p: a for p, a in self._ahead.items() if a.used_at > before}
        for place in [p for p, turn in self._turns.items() if p not in self._ahead and not turn.locked()]:
            del self._turns[place]
        return self._ahead

    def _request(self, wanted: Mapping[Place, _Ahead], wait_ms: int) -> FetchRequest:
        most = PLACE_BYTES if self._held() < AHEAD_BYTES else LEAST_AHEAD_BYTES
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), ahead in sorted(wanted.items(), key=lambda w: w[1].bytes):
            topics.setdefault(topic, []).append((partition, ahead.next, most))
        return FetchRequest(wait_ms, 1, FETCH_BYTES, READ_COMMITTED, list(topics.items()))

    def _take(self, answer: Any, asked: Mapping[Place, int]) -> None:
        """Keep what came, and wake who waits."""
        stale: type[KafkaError] | None = None if answer.error_code == 0 else for_code(answer.error_code)
        for topic, parts in answer.topics:
            for partition, code, _, end, _, aborted, *_, raw in parts:
                place, error = (topic, partition), for_code(code)
                ahead = self._ahead.get(place)
                if ahead is None or ahead.next != asked[place]:  # it is read elsewhere by now
                    continue
                if not code:
                    self._keep(place, ahead, end, raw, aborted)
                elif error is OffsetOutOfRangeError:
                    ahead.outside, ahead.silent_since = True, None
                elif error.invalid_metadata:
                    self._miss([ahead], error())
                    stale = error
                else:
                    ahead.trouble, ahead.trouble_at = f"{topic}/{partition}: {reason(error())}", time.monotonic()
        self._wake()
        if stale:
            raise stale

    def _keep(self, place: Place, ahead: _Ahead, end: int, raw: bytes, aborted: Any) -> None:
        try:
            found, ahead.next = unpack(place, raw, ahead.next, aborted)
        except KafkaError as e:
            ahead.trouble, ahead.trouble_at = f"{place[0]}/{place[1]} at {ahead.next}: {reason(e)}", time.monotonic()
            return
        ahead.entries += found
        ahead.bytes += len(raw)
        ahead.end, ahead.heard_at, ahead.silent_since = end, time.monotonic(), None


async def _within(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return
