"""How long partitions stand still: after a kill -9 of one of two members, and after 30 s without the Kafka broker.

A trial ends when every partition has moved in every flow of behaviours, while 1,000 events a second come. After a kill
it counts from the kill; after an outage from the moment at which the broker takes requests again, and a line more says
how much of that passed until the sender of the events was through again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from statistics import median

from bench.machine import PARTITIONS, Machine, Member, Positions, machine, variables
from bench.produce import Producer, fill

FLOWS = ("behaviors", "hot", "metrics", "profile")
TOPIC, PREFIX = "behaviors", "bench"
RATE, AWAY_S, MOST_S = 1000, 30.0, 120.0
POLL_S = 0.01


class Pair:
    """Two members that share the partitions of every flow."""

    def __init__(self, m: Machine) -> None:
        self._m, self._redis = m, m.redis()
        self._positions = Positions(m, PREFIX, FLOWS, TOPIC)
        self._members = [self._member(), self._member()]
        self._await_shared()

    def _member(self) -> Member:
        found = Member(self._m, variables(self._m, FLOWS, TOPIC, PREFIX))
        found.start()
        return found

    def _await_shared(self) -> None:
        """Until each of the two holds half of the partitions of each flow."""
        _until(lambda: all(self._shares(f) == [PARTITIONS // 2] * 2 for f in FLOWS))

    def _shares(self, flow: str) -> list[int]:
        """How many partitions each holder has."""
        keys = [f"{PREFIX}:lease:{flow}:{TOPIC}:{p}" for p in range(PARTITIONS)]
        owners = [o for o in self._redis.mget(keys) if o]  # type: ignore[union-attr]
        return [owners.count(o) for o in sorted(set(owners))]

    def killed(self) -> float:
        """Seconds from the kill of the older one until all has moved; another takes its place afterwards."""
        self._members.pop(0).kill()
        self.mark()
        seconds = _until(self.have_moved)
        self._members.append(self._member())
        self._await_shared()
        return seconds

    def mark(self) -> None:
        """From here on `have_moved` counts."""
        self._before = self._positions.read()

    def have_moved(self) -> bool:
        """Whether every partition of every flow stands further than it did."""
        return all(a > b for a, b in zip(self._positions.read(), self._before, strict=True))

    def kill(self) -> None:
        for member in self._members:
            member.kill()


def _until(true: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not true():
        if time.perf_counter() - began > MOST_S:
            raise RuntimeError(f"not within {MOST_S} s")
        time.sleep(POLL_S)  # a poll of other processes, not a race
    return time.perf_counter() - began


def away(m: Machine, pair: Pair, producer: Producer) -> tuple[float, float]:
    """Seconds from the broker's return until events come again, and until all has moved."""
    m.kafka.kill()
    time.sleep(AWAY_S)  # the outage itself
    m.kafka.start()
    began, appended = time.perf_counter(), producer.appended
    sent_s: list[float] = []

    def moved() -> bool:
        if not sent_s and producer.appended > appended:
            sent_s.append(time.perf_counter() - began)
        return pair.have_moved()

    pair.mark()
    seconds = _until(moved)
    return sent_s[0], seconds


def measure(m: Machine, kills: int, outages: int) -> dict[str, list[float]]:
    asyncio.run(fill(m.kafka.url, TOPIC, PARTITIONS * 100))
    with Producer(m.kafka.url, TOPIC, RATE) as producer:
        pair = Pair(m)
        try:
            pair.mark()
            _until(pair.have_moved)
            found = {"kill -9 of a member": [pair.killed() for _ in range(kills)]}
            trials = [away(m, pair, producer) for _ in range(outages)]
            found["30 s without the broker"] = [moved for _, moved in trials]
            found["  until events came again"] = [sent for sent, _ in trials]
        finally:
            pair.kill()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--outages", type=int, default=5)
    args = parser.parse_args()
    with machine() as m:
        found = measure(m, args.kills, args.outages)
    print(f"{'until all partitions move':28}{'trials':>8}{'p50 s':>8}{'most s':>8}")
    for name, seconds in found.items():
        print(f"{name:28}{len(seconds):8}{median(seconds):8.2f}{max(seconds):8.2f}")
    print(json.dumps({name: [round(s, 2) for s in seconds] for name, seconds in found.items()}))


if __name__ == "__main__":
    main()
