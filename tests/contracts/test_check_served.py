"""`lemo check` against every served store, each a real program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_app import wiring
from ray_app.config import Settings
from ray_app.operations.check import Dependency, Report
from tests.services.kafka import KafkaBroker


async def found(data: Path, **sections: Any) -> Report:
    return await wiring.inspect(Settings.model_validate({"data": data, **sections}), None)


def by_name(report: Report) -> dict[str, Dependency]:
    return {d.name: d for d in report.dependencies}


@pytest.fixture
def broker(kafka: KafkaBroker) -> KafkaBroker:
    kafka.start()
    return kafka


async def test_every_served_store_is_reached_and_says_its_version(
    tmp_path: Path, broker: KafkaBroker, mongodb_url: str, milvus_url: str, s3_url: str, redis_url: str,
    clickhouse_url: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stores = {
        "mongodb_url": mongodb_url, "redis_url": redis_url, "milvus_url": milvus_url,
        "clickhouse_url": clickhouse_url, "blobs_url": s3_url,
    }  # fmt: skip
    report = await found(tmp_path / "none", stores=stores, events={"kafka_url": broker.secure_url})
    for one in report.dependencies:
        with capsys.disabled():
            print(f"\n{one.name}: {one.version}, {one.round_trip_ms} ms", end="")
        assert (one.reachable, one.missing, one.idle) == (True, False, False), one
        assert one.version
    logins = {one.name for one in report.dependencies if one.authenticated}
    assert logins == {"event log", "blobs"}
    assert report.ok
    assert not any(role.without or role.idle for role in report.roles)
    assert not (tmp_path / "none").exists()


async def test_a_login_that_is_refused_is_told_from_a_store_that_is_away(
    tmp_path: Path, broker: KafkaBroker, s3_url: str
) -> None:
    wrong = broker.secure_url.replace("lemo:", "nobody:", 1)
    assert wrong != broker.secure_url
    report = by_name(await found(tmp_path, stores={"blobs_url": "s3://no-such-bucket/x"}, events={"kafka_url": wrong}))
    log, blobs = report["event log"], report["blobs"]
    assert (log.reachable, log.authenticated, log.missing) == (True, False, True)
    assert "password" in log.findings[0].do
    assert (s3_url[:5], blobs.missing) == ("s3://", True)


async def test_topics_that_cannot_hold_what_is_promised_are_named(tmp_path: Path, broker: KafkaBroker) -> None:
    broker.tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", "narrow", "--partitions", "1")
    log = by_name(await found(tmp_path, events={"kafka_url": broker.url, "item_topics": ["narrow", "not-there"]}))
    says = {f.about: f for f in log["event log"].findings}
    assert says["topic not-there"].level == "ok"
    warned = [f.says for f in log["event log"].findings if f.level == "warn"]
    assert any("narrow has 1 partitions" in text for text in warned)
    assert any("narrow keeps the time of its senders" in text for text in warned)
