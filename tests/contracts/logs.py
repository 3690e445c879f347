"""Every adapter of the event log, opened for a test; and retention that takes what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.clock import FixedClock
from ray_app.events.base import Appended, Entry, EventLog
from ray_app.events.kafka import KafkaLog
from ray_app.events.memory import MemoryLog
from ray_app.events.sqlite import SqliteLog

PARTITIONS, KEEP_S = 4, 3600
EMBEDDED = ("memory", "sqlite")
SERVED = ("kafka", "kafka by SASL_SSL")


class Logs:
    """Opens one adapter, several times if wanted: all see the same entries. The embedded ones take the time from
    `clock`."""

    def __init__(self, name: str, folder: Path, request: pytest.FixtureRequest, clock: FixedClock) -> None:
        self._name, self._file, self._request, self.clock = name, folder / "deep" / "events.db", request, clock
        self._memory = MemoryLog(PARTITIONS, clock)

    def open(self) -> EventLog:
        if self._name == "memory":
            return self._memory
        if self._name == "sqlite":
            return SqliteLog(self._file, PARTITIONS, self.clock, KEEP_S)
        broker = self._request.getfixturevalue("kafka")
        return KafkaLog(broker.url if self._name == "kafka" else broker.secure_url, PARTITIONS, KEEP_S)

    async def forget(self, log: EventLog, topic: str) -> list[Appended]:
        """Everything of `topic` grows too old, and one entry of key k0 is young."""
        young, ends = [Entry("k0", b"young")], await log.ends(topic)
        if isinstance(log, MemoryLog):
            for p, end in enumerate(ends):
                log.forget(topic, p, end)
        if isinstance(log, SqliteLog):
            self.clock.pass_s(KEEP_S + 1)
            return [(await log.append(topic, young))[0] for _ in range(256)][:1]  # it looks now and then
        if isinstance(log, KafkaLog):
            await self._request.getfixturevalue("kafka").forget(topic, ends)
        return await log.append(topic, young)
