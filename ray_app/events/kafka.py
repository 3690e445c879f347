"""The served event log: Kafka, by aiokafka.

Which member reads which partition is decided by leases in Redis and where it reads by the position there, as with the
embedded log, so a flow joins no consumer group: it reads the partitions that it is told to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence

from ray_app.errors import InvalidSettings
from ray_app.events.base import SUFFIX, Appended, Entry, Logged, Place, PlaceUnavailable
from ray_app.events.kafka_url import parse

APPEND_S = 10.0
MADE_S = 5.0  # a topic that is made is seen by all brokers within this
ABSENT_S = 0.5  # a topic that is absent is looked for again after this


class KafkaLog:
    """Belongs to one event loop. Topics that are absent are made with `partitions` partitions, the log's own time and
    `retention_s`, and as many copies as the brokers make by default. Topics that exist stay as they are.

    Positions are Kafka's offsets: not dense where records were removed or a transaction ended.
    A position beyond the end (the topic was made again) reads as empty until the log has grown, and is logged.
    """

    def __init__(self, url: str, partitions: int, retention_s: float | None = None) -> None:
        connection = parse(url)
        try:
            from ray_app.events.kafka_client import Cluster
            from ray_app.events.kafka_groups import Groups
            from ray_app.events.kafka_reader import Reader
            from ray_app.events.kafka_topics import Directory
            from ray_app.events.kafka_writer import MESSAGE_BYTES, Writer
        except ModuleNotFoundError as e:
            raise InvalidSettings(
                f"setting events.kafka_url is set, but the package {e.name} is absent: pip install 'lemo[served]'"
            ) from e
        self._cluster = Cluster(connection)
        self._directory = Directory(self._cluster)
        self._reader = Reader(self._cluster, self._directory)
        self._writer, self._groups = Writer(connection), Groups(self._cluster)
        self._n = partitions
        self._topic_settings = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MESSAGE_BYTES),
            "retention.ms": str(-1 if retention_s is None else int(retention_s * 1000)),
        }

    async def append(self, topic: str, entries: Sequence[Entry]) -> list[Appended]:
        """Raises Unavailable within APPEND_S; what was on its way may then have arrived, so sent again it may stand
        there twice."""
        if not entries:
            return []
        until = time.monotonic() + APPEND_S
        await self.partitions(topic)
        done = await self._writer.append(topic, entries, until - time.monotonic())
        self._reader.appended(done)
        return done

    async def topics(self) -> list[str]:
        """A topic that another program makes is seen within 5 s."""
        return sorted(await self._directory.topics())

    async def partitions(self, topic: str) -> int:
        """Partitions that are added to a topic are seen within 5 s. Raises PlaceUnavailable for one that is neither
        seen nor made."""
        until = time.monotonic() + MADE_S
        while not (n := await self._directory.count(topic)):
            if time.monotonic() > until:
                raise PlaceUnavailable(
                    f"topic {topic} was made, and is not seen {MADE_S:g} s later. Look at the brokers' controller, and "
                    "let the user describe the topic"
                )
            await self._directory.make(topic, self._n, self._topic_settings)
        return n

    async def read(self, topic: str, partition: int, position: int, limit: int, wait_s: float = 0.0) -> list[Logged]:
        until = time.monotonic() + wait_s
        while partition >= await self._directory.count(topic):
            if time.monotonic() >= until:
                return []
            await asyncio.sleep(min(ABSENT_S, wait_s))
        return await self._reader.read((topic, partition), position, limit, max(0.0, until - time.monotonic()))

    async def wait(self, places: Mapping[Place, int], wait_s: float) -> None:
        until, come = time.monotonic() + wait_s, False
        while not come and (left := until - time.monotonic()) > 0:
            there = {(t, p): at for (t, p), at in places.items() if p < await self._directory.count(t)}
            come = await self._reader.wait(there, left if len(there) == len(places) else min(left, ABSENT_S))

    async def first(self, topic: str, partition: int) -> int:
        from ray_app.events.kafka_topics import EARLIEST

        if partition >= await self._directory.count(topic):
            return 0
        return (await self._directory.offsets(topic, [partition], EARLIEST))[0]

    async def end(self, topic: str, partition: int) -> int:
        ends = await self.ends(topic)
        return ends[partition] if partition < len(ends) else 0

    async def ends(self, topic: str) -> list[int]:
        """Of an absent topic: zeros, as many as it would have partitions."""
        from ray_app.events.kafka_topics import LATEST

        n = await self._directory.count(topic)
        return await self._directory.offsets(topic, range(n), LATEST) if n else [0] * self._n

    async def tell_group(self, group: str, topic: str, partition: int, position: int) -> None:
        """Sent in the background; Unavailable then comes with a later call."""
        self._groups.tell(group, (topic, partition), position)

    async def told(self, group: str, topic: str, partition: int) -> int:
        return await self._groups.told(group, (topic, partition))

    async def version(self) -> str:
        """The release is told from the requests that a broker knows, since no broker says it."""
        return f"Kafka {await self._directory.release()}"

    async def findings(self, topics: Collection[str] = ()) -> list[str]:
        """What is wrong with those of `topics` that exist and with their dead-letter topics, and what to do; with none
        named, of all."""
        counts = {t: n for t, n in (await self._directory.topics()).items() if t in topics or not topics}
        found = [
            f"topic {t} has {n} partitions, and events.partitions is {self._n}: more members than {n} would idle. "
            "Add partitions by kafka-topics --alter, once its flows have no lag"
            for t, n in counts.items()
            if n < self._n
        ]
        dead = [t for t in await self._directory.topics() if t.removesuffix(SUFFIX) in counts and t not in counts]
        least = int(self._topic_settings["max.message.bytes"])
        for topic, settings in (await self._directory.settings([*counts, *dead])).items():
            if topic.endswith(SUFFIX) and int(settings.get("max.message.bytes") or least) < least:
                found.append(
                    f"topic {topic} takes messages of {settings['max.message.bytes']} bytes, and a dead letter may "
                    f"have {least}: a partition would wait until it can be written. Set max.message.bytes={least} by "
                    "kafka-configs --alter"
                )
            if topic in counts and settings.get("message.timestamp.type") == "CreateTime":
                found.append(
                    f"topic {topic} keeps the time of its senders: lateness and windows would depend on their clocks. "
                    "Set message.timestamp.type=LogAppendTime by kafka-configs --alter"
                )
        return found

    async def close(self) -> None:
        await self._reader.close()
        await self._groups.close()
        await self._writer.close()
        await self._directory.close()
        await self._cluster.close()
