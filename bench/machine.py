"""The servers of a bench, all real and on this machine: a Kafka broker, a redis-server, a ClickHouse (chDB) server; and
members of the pool, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis

from ray_app.launch import House
from ray_app.stores.embedded import free_port, http_up, olap_command, redis_command, redis_up
from tests.services.kafka import KafkaBroker

ROOT = Path(__file__).resolve().parent.parent
PARTITIONS = 4


@dataclass(frozen=True)
class Machine:
    kafka: KafkaBroker
    redis_url: str
    clickhouse_url: str
    folder: Path
    processes: Mapping[str, psutil.Process]

    @property
    def brokers(self) -> str:
        return self.kafka.url.removeprefix("kafka://")

    def redis(self) -> Redis:
        return Redis.from_url(self.redis_url)

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU that each server has used."""
        return {name: sum(p.cpu_times()[:2]) for name, p in self.processes.items()}


@contextmanager
def machine() -> Iterator[Machine]:
    """The servers run meanwhile, with their data in a folder that goes with them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lemo-bench-")))
        for name in ("kafka", "redis"):
            (folder / name).mkdir()
        kafka = KafkaBroker(folder / "kafka")
        stack.callback(kafka.kill)
        kafka.start()
        redis_port, olap_port = free_port(), free_port()
        found = {
            "redis": redis_command(redis_port, folder / "redis"),
            "clickhouse": olap_command(olap_port, folder / "clickhouse"),
        }
        processes = {}
        for name, line in found.items():
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            started = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
            stack.callback(_end, started)
            processes[name] = psutil.Process(started.pid)
        while not (redis_up(redis_port) and http_up(olap_port)):
            time.sleep(0.05)  # a poll of other processes, not a race
        processes["kafka"] = _listens_on(kafka.port)
        urls = f"redis://127.0.0.1:{redis_port}/0", f"http://127.0.0.1:{olap_port}"
        yield Machine(kafka, *urls, folder, processes)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _listens_on(port: int) -> psutil.Process:
    """Of our own children: the broker's shell hands out no number."""
    for p in psutil.Process().children(recursive=True):
        if any(c.laddr.port == port for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN):
            return p
    raise RuntimeError(f"none of our children listens on port {port}")


def variables(m: Machine, flows: Sequence[str], topic: str, prefix: str) -> dict[str, str]:
    """Settings of a member on these servers."""
    return {
        "LEMO_DATA": str(m.folder / "data"), "LEMO_STORES_REDIS_URL": m.redis_url,
        "LEMO_STORES_CLICKHOUSE_URL": m.clickhouse_url, "LEMO_EVENTS_KAFKA_URL": m.kafka.url,
        "LEMO_EVENTS_PARTITIONS": str(PARTITIONS), "LEMO_EVENTS_BEHAVIOR_TOPIC": topic,
        "LEMO_STREAMS_FLOWS": ",".join(flows), "LEMO_STORES_REDIS_PREFIX": prefix, "LEMO_LOGS_LEVEL": "ERROR",
    }  # fmt: skip


def replica(house: House) -> psutil.Process:
    """The pool's, in the running system."""
    return next(p for p in house.processes() if "ServeReplica:recommender:Streams" in " ".join(p.cmdline()))


class Member:
    """A member of the pool (bench.member); `settings` are LEMO_ variables."""

    def __init__(self, m: Machine, settings: Mapping[str, str]) -> None:
        env = {**os.environ, **settings}
        (m.folder / "data").mkdir(exist_ok=True)
        line = [sys.executable, "-m", "bench.member"]
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT
        )
        self.process = psutil.Process(self._process.pid)
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a member ended with status {self._process.wait()}")
        return line

    def _say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def start(self) -> None:
        """Its flows begin; it was only loaded until now."""
        self._say()

    def cpu_s(self) -> float:
        """Seconds of CPU since it was started."""
        self._say()
        return float(self._read())

    def stop(self) -> None:
        """It hands its partitions over."""
        self._process.communicate(timeout=60)

    def kill(self) -> None:
        """As kill -9."""
        self._process.kill()
        self._process.wait()


class Positions:
    """Where the flows of one prefix stand in a topic, as Redis has it."""

    def __init__(self, m: Machine, prefix: str, flows: Sequence[str], topic: str) -> None:
        self._redis, self._flows = m.redis(), flows
        self._keys = [f"{prefix}:position:{f}:{topic}:{p}" for f in flows for p in range(PARTITIONS)]

    def read(self) -> list[int]:
        """Of each flow one after another, each partition of it."""
        found: list[bytes | None] = self._redis.mget(self._keys)  # type: ignore[assignment]
        return [int(at or 0) for at in found]

    def wait(self, events: int, timeout_s: float = 900.0) -> None:
        """Until every flow has applied `events` events of the topic."""
        ends = time.monotonic() + timeout_s
        while sum(self.read()) < events * len(self._flows):
            if time.monotonic() > ends:
                raise RuntimeError(f"{', '.join(self._flows)} stand at {self.read()} after {timeout_s} s")
            time.sleep(0.01)  # a poll of another process, not a race
