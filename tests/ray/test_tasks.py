"""Tasks on the running cluster: submitted by the Python client, done by Workers, seen by operators and Prometheus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lemo_client import Lemo, part

from ray_app.launch import ROOT
from tests.ray.conftest import Shop, until

LEMO = str(Path(sys.executable).parent / "lemo")


@pytest.fixture(scope="module")
def lemo(shop: Shop) -> Iterator[Lemo]:
    with Lemo(shop.key, shop.house.url, timeout_s=30) as client:
        yield client


def command(shop: Shop, *line: str) -> str:
    env = {**os.environ, "RAY_AUTH_MODE": "token", "LEMO_DATA": str(shop.data)}
    done = subprocess.run([LEMO, *line], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def indexing(id: str) -> dict[str, object]:
    data = {"order_id": id, "text": f"order {id}"}
    return part("index_to_vector_db", {"collection_name": "of_client", "data": data})


def test_the_client_recommends_and_submits_and_gets_results(lemo: Lemo) -> None:
    assert len(lemo.recommend("home", user_id="nobody", n=5)["items"]) == 5
    task = lemo.submit("src.core.celery_tasks.index_to_vector_db", kwargs=indexing("1")["argument"])
    assert task.wait(60)["collection_name"] == "of_client"
    assert (task.state, task.get()["name"]) == ("SUCCESS", "index_to_vector_db")
    last = lemo.chain(indexing("2"), {"group": [indexing("3"), indexing("4")]}, indexing("5"))
    assert last.wait(60)["collection_name"] == "of_client"
    assert len(lemo.search_collection("of_client", n=10)["documents"]) == 5


def test_the_history_reaches_analytics(lemo: Lemo) -> None:
    task = lemo.submit("index_to_vector_db", indexing("6")["argument"])
    task.wait(60)

    def kept() -> bool:
        return [a["state"] for a in lemo.task_history(id=task.id)["attempts"]] == ["SUCCESS"]

    until(kept, 60)


def test_operators_see_the_workers_of_the_cluster(shop: Shop, lemo: Lemo) -> None:
    until(lambda: "of pool general: 2 slots" in command(shop, "task", "ping"), 60)
    handlers = {json.loads(line)["name"] for line in command(shop, "task", "registered", "--json").splitlines()}
    assert "index_to_vector_db" in handlers
    key = command(shop, "key", "--operator")
    headers = {"X-API-Key": key}
    found = httpx.get(f"{shop.house.url}/api/v1/workers", headers=headers, timeout=30).json()
    assert [w["pool"] for w in found["workers"] if w["online"]] == ["general"]
    assert found["stats"]["handlers"]["index_to_vector_db"]["SUCCESS"] >= 1


def test_prometheus_finds_our_figures_and_those_of_flower(shop: Shop, lemo: Lemo) -> None:
    lemo.submit("index_to_vector_db", indexing("7")["argument"]).wait(60)
    folder = Path(f"/tmp/lemo-ray-{os.getpid()}")

    def told() -> bool:
        found = json.loads((folder / "ray" / "prom_metrics_service_discovery.json").read_text())
        texts = [httpx.get(f"http://{at}/metrics", timeout=10).text for group in found for at in group["targets"]]
        lines = [x for text in texts for x in text.splitlines() if x.startswith(("ray_lemo_task", "ray_flower"))]
        task = [x for x in lines if 'task="index_to_vector_db"' in x]
        return (
            any(x.startswith("ray_lemo_task_ended_total{") and 'state="SUCCESS"' in x for x in task)
            and any(x.startswith("ray_flower_events_total{") and 'type="task-succeeded"' in x for x in task)
            and any(x.startswith("ray_flower_task_runtime_seconds_count{") for x in task)
            and any(x.startswith("ray_lemo_task_queue_length{") and 'queue="default"' in x for x in lines)
            and any(x.startswith("ray_flower_worker_online{") and x.endswith(" 1.0") for x in lines)
        )

    until(told, 60)
