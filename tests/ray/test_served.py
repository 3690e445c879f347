"""The whole system on served stores, as production starts it: import, click, and the recommendation changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from ray_app.config import Settings
from ray_app.launch import ROOT, House
from ray_app.stores.embedded import free_port
from tests.conftest import RedisServer
from tests.ray.conftest import until
from tests.services.kafka import KafkaBroker
from tests.services.milvus import MilvusServer
from tests.services.mongo import MongoServer
from tests.services.s3 import S3Server

PRODUCTION = ROOT / "deploy" / "serve_config.production.yaml"
LEMO = str(Path(sys.executable).parent / "lemo")
TENANT = "served-shop"


class Served:
    """The running system, its environment, and a client with the key of a new tenant."""

    def __init__(self, house: House, env: dict[str, str], broker: str, scratch: Path) -> None:
        self.scratch = scratch
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LEMO_"))}, **env}
        self.house, self.broker = house, broker
        key = self.lemo("key", "--tenant", TENANT).stdout.strip()
        self.http = httpx.Client(base_url=house.url, headers={"X-API-Key": key}, timeout=15)

    def lemo(self, *line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([LEMO, *line], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=120)

    def post(self, path: str, body: object) -> dict[str, object]:
        answer = self.http.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    def shown(self, user: str, n: int = 10) -> list[str]:
        answer = self.http.post("/api/v1/recommend", json={"scenario": "home", "user_id": user, "n": n})
        return [i["item_id"] for i in answer.json()["items"]] if answer.status_code == 200 else []

    async def produce(self, topic: str, body: object) -> None:
        """As another program does, without a key."""
        producer = AIOKafkaProducer(bootstrap_servers=self.broker)
        await producer.start()
        await producer.send_and_wait(topic, json.dumps(body).encode())
        await producer.stop()


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
    clickhouse_url: str,
    kafka: KafkaBroker,
    mongodb: MongoServer,
    milvus: MilvusServer,
    s3: S3Server,
) -> Iterator[Served]:
    for server in (redis_server, mongodb, milvus, s3):
        server.start()
    data = tmp_path_factory.mktemp("served")
    env = {
        "LEMO_DATA": str(data), "LEMO_STORES_REDIS_URL": redis_server.url.replace("/0", "/3"),
        "LEMO_STORES_CLICKHOUSE_URL": clickhouse_url, "LEMO_EVENTS_KAFKA_URL": kafka.url,
        "LEMO_STORES_MONGODB_URL": f"{mongodb.url}/served", "LEMO_STORES_MILVUS_URL": milvus.url,
        "LEMO_STORES_BLOBS_URL": f"s3://{s3.make_bucket()}/lemo", "LEMO_STORES_REDIS_PREFIX": "served",
        "AWS_ENDPOINT_URL": s3.url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    house = House(data, free_port(), free_port(), PRODUCTION)
    scratch = Path(tempfile.mkdtemp(prefix="lemo-ray-"))  # a socket's path may not be long
    house.start({**env, "RAY_TMPDIR": str(scratch)})
    try:
        house.wait_ready(300)
        yield Served(house, env, kafka.url.removeprefix("kafka://"), scratch)
    finally:
        house.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def test_import_click_and_the_recommendation_changes(served: Served) -> None:
    items = [
        {"item_id": f"i{k}", "title": f"thing {k} of kind {k % 6}", "category": f"kind {k % 6}"} for k in range(60)
    ]
    assert served.post("items?wait=true", {"items": items})["accepted"] == 60
    now = time.time_ns() // 1_000_000
    past = [
        {"event_id": f"h{k}", "user_id": f"u{k % 20}", "item_id": f"i{(k * 7) % 60}", "type": "purchase",
         "occurred_at": now - 60_000 * k}
        for k in range(200)
    ]  # fmt: skip
    assert served.post("behaviors?wait=true", {"behaviors": past})["accepted"] == 200
    before = until(lambda: served.shown("new"))
    assert isinstance(before, list)
    click = {"event_id": "c1", "user_id": "new", "item_id": before[0], "type": "click", "occurred_at": now}
    assert served.post("behaviors?wait=true", {"behaviors": [click]})["accepted"] == 1
    until(lambda: (after := served.shown("new")) and before[0] not in after, 10)


async def test_what_old_producers_write_to_kafka_is_recommended(served: Served) -> None:
    vlog = {
        "event_type": "item.created",
        "tenant_id": TENANT,
        "data": {"itemId": "v1", "title": "a vlog", "version": 1},
    }
    await served.produce("vlog-items", vlog)
    own = {"event_type": "item.created", "data": {"item_id": "own", "title": "of the tenant's topic", "version": 1}}
    await served.produce(f"item-events-{TENANT}", own)
    for id, type in (("v1", "vlog"), ("own", "item")):
        until(lambda id=id: served.http.get(f"/api/v1/items/{id}").status_code == 200, 30)  # type: ignore[misc]
        assert served.http.get(f"/api/v1/items/{id}").json()["type"] == type
        until(lambda id=id: id in served.shown("somebody", 100), 30)  # type: ignore[misc]


def test_a_job_learns_from_served_stores_and_what_it_learned_answers(served: Served) -> None:
    for name in ("embed", "similarity"):
        line = [str(Path(LEMO).parent / "ray"), "job", "submit", "--", "python", f"jobs/{name}.py"]
        env = {**served.env, "RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": _dashboard(served)}
        done = subprocess.run(
            [*line, "--tenant", TENANT], env=env, cwd=ROOT, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def versions() -> object:
        answer = served.post("recommend", {"scenario": "home", "user_id": "u1", "n": 5})
        return "embedder" in answer["versions"]  # type: ignore[operator]

    until(versions, 30)


def _dashboard(served: Served) -> str:
    return (served.house.data / "dashboard.url").read_text().strip()


def test_lemo_check_finds_every_store_and_its_version(served: Served) -> None:
    done = served.lemo("check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("MongoDB", "Redis", "Kafka", "Milvus", "ClickHouse"):
        assert name in done.stdout


def test_lemo_stream_shows_every_flow_at_the_end_of_its_topics(served: Served) -> None:
    def at_the_end() -> bool:
        lines = [json.loads(line) for line in served.lemo("stream", "list", "--json").stdout.splitlines()]
        return len(lines) == len(Settings().streams.flows) and all(x["lag"] == 0 and x["members"] >= 1 for x in lines)

    until(at_the_end, 60)


def test_prometheus_finds_the_lag_of_every_partition(served: Served) -> None:
    def lines() -> object:
        """What the metrics ports of this cluster's nodes say."""
        found = json.loads((served.scratch / "ray" / "prom_metrics_service_discovery.json").read_text())
        texts = [httpx.get(f"http://{at}/metrics", timeout=10).text for group in found for at in group["targets"]]
        held = [x for text in texts for x in text.splitlines() if x.startswith("ray_lemo_stream_lag{")]
        wanted = {(flow, p) for flow in ("hot", "metrics", "profile", "behaviors") for p in range(4)}
        return wanted <= {
            (flow, p) for flow, p in wanted for x in held if f'flow="{flow}"' in x and f'ition="{p}"' in x
        }

    until(lines, 60)


def test_the_pool_has_as_many_replicas_as_an_operator_wants(served: Served) -> None:
    def members() -> int:
        lines = [json.loads(line) for line in served.lemo("stream", "list", "--json").stdout.splitlines()]
        return min(x["members"] for x in lines if x["flow"] in ("hot", "profile"))

    assert members() == 2
    assert served.lemo("stream", "scale", "3").returncode == 0
    until(lambda: members() == 3, 120)
