"""What only Kafka has: other programs' messages, topics and groups, transactions, rights, and brokers that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from ray_app.clock import SystemClock, new_id
from ray_app.errors import Unavailable
from ray_app.events.base import Entry, partition_of
from ray_app.events.kafka import KafkaLog
from ray_app.events.kafka_reader import AHEAD_BYTES
from tests.services.kafka import SECRET, KafkaBroker

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


@pytest.fixture
async def log(kafka: KafkaBroker) -> AsyncIterator[KafkaLog]:
    opened = KafkaLog(kafka.url, 4, 3600)
    yield opened
    await opened.close()


@pytest.fixture
def topic() -> str:
    return f"t-{new_id()}"


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    await client.start()
    try:
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def servers(kafka: KafkaBroker) -> str:
    return kafka.url.removeprefix("kafka://")


async def until(what: Callable[[], Awaitable[bool]], why: str, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await what():
        assert time.monotonic() < deadline, why
        await asyncio.sleep(0.05)


async def everything(log: KafkaLog, topic: str) -> list[bytes]:
    found = []
    for p in range(await log.partitions(topic)):
        at = await log.first(topic, p)
        while held := await log.read(topic, p, at, 1_000):
            found += [e.body for e in held]
            at = held[-1].position + 1
    return found


async def test_messages_of_other_producers(kafka: KafkaBroker, log: KafkaLog, topic: str) -> None:
    """Without a key, without a value, with a key that is no text, compressed, and with a time of their own."""
    await log.partitions(topic)
    plain = AIOKafkaProducer(bootstrap_servers=servers(kafka))
    packed = AIOKafkaProducer(bootstrap_servers=servers(kafka), compression_type="gzip")
    async with started(plain), started(packed):
        await plain.send_and_wait(topic, b"no key", partition=0, timestamp_ms=1)
        await plain.send_and_wait(topic, None, b"a tombstone", partition=0)
        await packed.send_and_wait(topic, b"packed" * 100, b"\xff\x00k", partition=0)
    found = await log.read(topic, 0, 0, 10)
    assert [(e.key, e.body) for e in found] == [
        ("", b"no key"), ("a tombstone", b""), ("\\xff\x00k", b"packed" * 100),
    ]  # fmt: skip
    assert all(abs(e.appended_at - SystemClock().now()) < 60_000 for e in found)  # the log's time, not the sender's


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
async def test_every_codec_can_be_read(kafka: KafkaBroker, log: KafkaLog, topic: str, codec: str) -> None:
    await log.partitions(topic)
    async with started(AIOKafkaProducer(bootstrap_servers=servers(kafka), compression_type=codec)) as producer:
        await producer.send_and_wait(topic, b"packed" * 100, partition=2)
    assert [e.body for e in await log.read(topic, 2, 0, 10)] == [b"packed" * 100]


async def test_looking_at_an_absent_topic_makes_none(log: KafkaLog, topic: str) -> None:
    """The broker would make it with one partition and the senders' time."""
    assert await log.read(topic, 0, 0, 10) == []
    assert await log.ends(topic) == [0, 0, 0, 0]
    assert await log.first(topic, 0) == 0
    await log.wait({(topic, 0): 0}, 0.05)
    assert topic not in await log.topics()


async def test_several_make_one_topic_at_once_with_our_settings(kafka: KafkaBroker, topic: str) -> None:
    logs = [KafkaLog(kafka.url, 4, 3600) for _ in range(5)]
    assert await asyncio.gather(*(one.partitions(topic) for one in logs)) == [4] * 5
    assert await logs[0].findings([topic]) == []
    settings = (await logs[0]._directory.settings([topic]))[topic]
    assert settings["message.timestamp.type"] == "LogAppendTime"
    assert settings["retention.ms"] == "3600000"
    await asyncio.gather(*(one.close() for one in logs))


async def test_topics_that_others_made_are_judged(kafka: KafkaBroker, log: KafkaLog, topic: str) -> None:
    async with started(AIOKafkaAdminClient(bootstrap_servers=servers(kafka))) as admin:
        await admin.create_topics([NewTopic(topic, 2, 1)])
    few, time_ = await log.findings([topic, "absent"])
    assert {few, time_} <= set(await log.findings())
    assert "has 2 partitions, and events.partitions is 4" in few
    assert "message.timestamp.type=LogAppendTime" in time_
    assert await log.partitions(topic) == 2
    assert {a.partition for a in await log.append(topic, [Entry(f"k{k}", b"") for k in range(50)])} == {0, 1}


async def test_partitions_that_are_added_are_used(kafka: KafkaBroker, log: KafkaLog, topic: str) -> None:
    await log.append(topic, [Entry("k", b"")])
    async with started(AIOKafkaAdminClient(bootstrap_servers=servers(kafka))) as admin:
        await admin.create_partitions({topic: NewPartitions(9)})

    async def seen() -> bool:
        return await log.partitions(topic) == 9

    await until(seen, "9 partitions", 10)
    given = [Entry(f"k{k}", b"%d" % k) for k in range(200)]

    async def used() -> bool:  # the producer looks at its own pace
        appended = await log.append(topic, given)
        return [a.partition for a in appended] == [partition_of(e.key, 9) for e in given]

    await until(used, "all 9 are appended to", 10)
    assert {e.partition for p in range(9) for e in await log.read(topic, p, 0, 1_000)} == set(range(9))


async def test_entries_of_aborted_transactions_are_not_read(kafka: KafkaBroker, log: KafkaLog, topic: str) -> None:
    """Positions then have gaps, and the last one may be no entry's: nothing hangs on either."""
    await log.partitions(topic)
    producer = AIOKafkaProducer(bootstrap_servers=servers(kafka), transactional_id=topic)
    async with started(producer):
        for k, aborts in enumerate([True, False, True, True, False, True]):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"%d" % k, partition=1)
            await (producer.abort_transaction() if aborts else producer.commit_transaction())
    found = await log.read(topic, 1, 0, 10)
    assert [(e.position, e.body) for e in found] == [(2, b"1"), (8, b"4")]
    assert await log.read(topic, 1, 9, 10) == []
    assert await log.end(topic, 1) == 12
    await log.append(topic, [Entry(next(f"k{k}" for k in range(99) if partition_of(f"k{k}", 4) == 1), b"after")])
    for at in range(9, 13):
        assert [e.body for e in await log.read(topic, 1, at, 10)] == [b"after"]


async def test_an_entry_of_an_open_transaction_is_read_once_it_is_committed(
    kafka: KafkaBroker, log: KafkaLog, topic: str
) -> None:
    await log.partitions(topic)
    async with started(AIOKafkaProducer(bootstrap_servers=servers(kafka), transactional_id=topic)) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=1)
        assert await log.read(topic, 1, 0, 10) == []
        waiting = asyncio.create_task(log.read(topic, 1, 0, 10, wait_s=20))
        await producer.commit_transaction()
        assert [e.body for e in await waiting] == [b"open"]


async def test_a_topic_that_is_made_again_is_empty_until_it_has_grown(
    kafka: KafkaBroker, log: KafkaLog, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    partition = partition_of("k", 4)
    await log.append(topic, [Entry("k", b"old")] * 5)
    assert len(await log.read(topic, partition, 0, 10)) == 5
    async with started(AIOKafkaAdminClient(bootstrap_servers=servers(kafka))) as admin:
        await admin.delete_topics([topic])

        async def made() -> bool:
            answer = await admin.create_topics([NewTopic(topic, 4, 1)])
            return bool(answer.topic_errors[0][1] == 0)

        await until(made, "the topic is made again")

    async def new() -> bool:
        try:
            return await log.end(topic, partition) == 0
        except Unavailable:
            return False

    await until(new, "the log sees the new topic")
    await log.append(topic, [Entry("k", b"new")] * 3)

    async def warned() -> bool:
        assert await log.read(topic, partition, 5, 10) == []
        return f"position 5 of {topic}/{partition} lies beyond its end, 3" in caplog.text

    await until(warned, "the log says so", 5)
    assert await log.read(topic, partition, 5, 10) == []
    await log.wait({(topic, partition): 5}, 0.05)
    assert caplog.text.count("lies beyond its end") == 1
    await log.append(topic, [Entry("k", b"new")] * 3)

    async def grown() -> bool:
        return [e.position for e in await log.read(topic, partition, 5, 10)] == [5]

    await until(grown, "it is read again", 5)


async def test_a_user_without_rights_is_told_what_is_missing(kafka: KafkaBroker, topic: str) -> None:
    log = KafkaLog(kafka.guest_url, 4, 3600)
    with pytest.raises(Unavailable, match=r"is absent and is not made. Make it with 4 partitions .*Authorization") as e:
        await log.append(topic, [Entry("k", b"")])
    assert topic in e.value.message
    await log.close()


async def test_a_wrong_password_is_named_and_not_shown(kafka: KafkaBroker) -> None:
    log = KafkaLog(kafka.secure_url.replace("word", "wrong"), 4, 3600)
    with pytest.raises(Unavailable, match="Authentication failed") as e:
        await log.topics()
    assert "wrong" not in e.value.message + repr(vars(log._cluster)) + repr(vars(log._writer))
    assert SECRET not in e.value.message
    await log.close()


async def test_a_certificate_of_an_unknown_authority_is_refused(kafka: KafkaBroker) -> None:
    log = KafkaLog(kafka.secure_url.partition("&ca=")[0], 4, 3600)
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await log.topics()
    await log.close()


async def test_who_asks_at_once_for_the_topics_shares_one_answer(
    log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every append asks, and what is known runs out for all of them at one moment."""
    await log.partitions(topic)
    monkeypatch.setattr(log._directory, "_known_at", float("-inf"))
    asked, ask = [], log._cluster.ask

    async def counted(what: str, *args: Any) -> Any:
        asked.append(what)
        return await ask(what, *args)

    monkeypatch.setattr(log._cluster, "ask", counted)
    assert await asyncio.gather(*(log.partitions(topic) for _ in range(100))) == [4] * 100
    assert asked == ["its topics"]


async def test_a_group_with_members_refuses_and_nothing_else_happens(
    kafka: KafkaBroker, log: KafkaLog, topic: str
) -> None:
    await log.append(topic, [Entry("k", b"")])
    group, partition = f"g-{topic}", partition_of("k", 4)
    await log.tell_group(group, topic, partition, 1)
    assert await log.told(group, topic, partition) == 1
    member = AIOKafkaConsumer(topic, bootstrap_servers=servers(kafka), group_id=group, enable_auto_commit=False)

    async def refused() -> bool:
        try:
            await log.tell_group(group, topic, partition, 7)
        except Unavailable as e:
            return "another program is a member of it" in e.message
        return False

    async with started(member):
        await until(refused, "a later call says so")
        assert await member.committed(next(tp for tp in member.assignment() if tp.partition == partition)) == 1
    await log.tell_group(group, topic, partition, 8)
    assert await log.told(group, topic, partition) == 8


async def test_lag_tools_see_a_flow(kafka: KafkaBroker, log: KafkaLog, topic: str) -> None:
    appended = await log.append(topic, [Entry("k", b"")] * 10)
    await log.tell_group(f"g-{topic}", topic, appended[0].partition, 4)
    await log.close()  # it tells what it has not told
    printed = await asyncio.to_thread(kafka.tool, GROUPS, "--describe", "--group", f"g-{topic}")
    line = next(line.split() for line in printed.splitlines() if topic in line.split()[1:2])
    assert line[2:6] == [str(appended[0].partition), "4", "10", "6"]


async def test_a_slow_reader_bounds_what_is_read_ahead(log: KafkaLog, topic: str) -> None:
    body = bytes(10_000)
    for _ in range(10):
        await log.append(topic, [Entry(f"k{k}", body) for k in range(400)])  # 40 MB

    def ahead() -> int:
        return sum(a.bytes for a in log._reader._ahead.values())

    positions = dict.fromkeys(((topic, p) for p in range(4)), 0)
    for place, at in positions.items():
        assert len(await log.read(*place, at, 5)) == 5
    most = 0
    for _ in range(40):
        await log.wait(positions, 5.0)
        await asyncio.sleep(0.01)
        most = max(most, ahead())
    assert 0 < most <= 2 * AHEAD_BYTES
    assert len(await everything(log, topic)) == 4_000


async def read_on(log: KafkaLog, topic: str, partition: int, at: int) -> None:
    while True:
        entries = await log.read(topic, partition, at, 100)
        at = entries[-1].position + 1 if entries else at


class Sender:
    """Appends numbers one after another; a number that was not acknowledged is sent again."""

    def __init__(self, log: KafkaLog, topic: str) -> None:
        self._log, self._topic = log, topic
        self.sent, self.refused, self.longest_s = 0, 0, 0.0

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._log.append(self._topic, [Entry("k", b"%d" % self.sent)])
                self.sent += 1
            except Unavailable:
                self.refused += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_broker_that_goes_away_and_comes_back(kafka: KafkaBroker, log: KafkaLog, topic: str, how: str) -> None:
    sender, partition = Sender(log, topic), partition_of("k", 4)
    running = asyncio.create_task(sender.run())

    async def sent_more(than: int) -> None:
        async def more() -> bool:
            return sender.sent > than

        await until(more, f"more than {than} are acknowledged")

    async def refused() -> bool:
        return sender.refused > 0

    try:
        await sent_more(20)
        at = (await log.read(topic, partition, 0, 20))[-1].position + 1
        (kafka.kill if how == "killed" else kafka.freeze)()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await read_on(log, topic, partition, at)
        assert time.monotonic() - began < 15
        if how == "killed":
            await until(refused, "an append is refused: a shorter absence is waited for")
            await asyncio.to_thread(kafka.start)
        else:
            kafka.thaw()
        await sent_more(sender.sent + 50)
    finally:
        running.cancel()
        kafka.thaw()
        await asyncio.to_thread(kafka.start)
    assert sender.longest_s < 12

    async def all_read() -> bool:
        try:
            found = [int(b) for b in await everything(log, topic)]
        except Unavailable:
            return False
        assert list(dict.fromkeys(found)) == list(range(max(found) + 1))  # in order; some twice
        return max(found) >= sender.sent - 1

    await until(all_read, "what was acknowledged is read")


async def test_an_entry_that_a_topic_does_not_take_is_named_and_hinders_no_other(
    kafka: KafkaBroker, log: KafkaLog, topic: str
) -> None:
    async with started(AIOKafkaAdminClient(bootstrap_servers=servers(kafka))) as admin:
        await admin.create_topics([NewTopic(topic, 4, 1)])
    large = [Entry("k", bytes(2_000_000))]
    for entries in (large, large * 30):
        with pytest.raises(Unavailable, match=r"takes no entry of 2000000 bytes\. Raise its max\.message\.bytes"):
            await log.append(topic, entries)
        await log.append(topic, [Entry("k", b"small")])
    assert await everything(log, topic) == [b"small", b"small"]
