"""Jobs from a shell of their own, as README says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import orjson
from google.protobuf.json_format import MessageToDict

from ray_app.access.keys import Keys
from ray_app.catalog.dataset import Datasets, parse
from ray_app.config import Settings
from ray_app.launch import ROOT
from ray_app.serving.grpc.lemo.v1.recommendation_pb2 import ListPopularRequest
from ray_app.serving.grpc.lemo.v1.recommendation_pb2_grpc import RecommendationStub
from ray_app.training.builds import last
from ray_app.training.runs import history as runs
from ray_app.wiring import open_world
from ray_app.wiring.stores import World
from tests.ray.conftest import Shop, until
from tests.story.shop import history, items, within

BIN = Path(sys.executable).parent
TENANT = "apprentice"  # of its own: with two months behind it
JOBS = {"evaluate": "", "dataset": "--name daily", "profiles": "", "precompute": ""}


SUBMIT = """
import sys
from ray.job_submission import JobSubmissionClient
from ray_app.cluster import follow_job
client = JobSubmissionClient(sys.argv[1])
for submitted in [client.submit_job(entrypoint=line) for line in sys.argv[2:]]:
    print(*follow_job(client, submitted), sep="\\n")
"""


def shell(shop: Shop, *line: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LEMO_"))}
    env |= {"RAY_AUTH_MODE": "token", "PATH": f"{BIN}:{env['PATH']}", "RAY_API_SERVER_ADDRESS": shop.dashboard}
    return subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


def submit(shop: Shop, job: str) -> subprocess.CompletedProcess[str]:
    return shell(shop, str(BIN / "ray"), "job", "submit", "--", "python", f"jobs/{job}.py", "--tenant", "demo")


def test_a_job_registers_a_version_that_goes_live(shop: Shop) -> None:
    for k in range(60):
        assert shop.behave(f"history-{k}", f"v{k % 12}", f"i{(k * k) % 40}").status_code == 200
    for job in ("embed", "similarity"):
        done = submit(shop, job)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "succeeded" in done.stdout
    until(lambda: "item_cf" in shop.recommend("v1").json()["versions"], 30)


def test_a_refused_model_leaves_what_is_live(shop: Shop) -> None:
    before = shop.recommend("v1").json()["versions"]
    done = submit(shop, "train")  # sixty events in one minute: nothing came after the cut
    assert "refused" in done.stdout + done.stderr, done.stdout + done.stderr
    assert shop.recommend("v1").json()["versions"].get("ranker") == before.get("ranker")
    assert orjson.loads(orjson.dumps(before)) == before


@asynccontextmanager
async def taught(shop: Shop) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    """The stores of the running system, and a client of TENANT, whose history is in analytics."""
    async with open_world(Settings(data=shop.data)) as world:
        key = await Keys(world.documents, world.clock).create(TENANT)
        await Datasets(world.documents, world.clock, TENANT).put(parse({"name": "daily"}))
        past = history(TENANT, time.time_ns() // 1_000_000 - 3_600_000)
        fields = ("event_id", "user_id", "item_id", "type", "occurred_at")
        async with httpx.AsyncClient(base_url=shop.house.url, headers={"X-API-Key": key}, timeout=30) as client:
            for path, elements in (
                ("items", items()),
                ("behaviors", [{f: getattr(b, f) for f in fields} for b in past]),
            ):
                answer = await client.post(f"/api/v1/{path}?wait=true", json={path: elements})
                assert answer.json()["accepted"] == len(elements), answer.text

            async def stored() -> bool:
                sql = "SELECT count() AS n FROM behaviors FINAL WHERE tenant = {t:String}"
                return bool(await world.olap.query(sql, {"t": TENANT}) == [{"n": len(past)}])

            await within(60, stored)
            yield world, client


def test_every_other_job_leaves_what_it_is_for(shop: Shop) -> None:
    """All at once, as a busy night has them."""
    asyncio.run(_jobs_at_once(shop))


async def _jobs_at_once(shop: Shop) -> None:
    async with taught(shop) as (world, client):
        lines = [f"python jobs/{name}.py --tenant {TENANT} {more}" for name, more in JOBS.items()]
        done = await asyncio.to_thread(shell, shop, sys.executable, "-c", SUBMIT, shop.dashboard, *lines)
        assert done.returncode == 0, done.stdout + done.stderr
        ended = {r["job"]: r for r in await runs(world, TENANT)}
        assert {name: r["state"] for name, r in ended.items()} == dict.fromkeys(JOBS, "done")
        assert 0 < ended["evaluate"]["metrics"]["recall@20"] < 1
        page = last(world.blobs, TENANT, "daily")
        assert page is not None
        assert (page["id"], page["rows"]) == (ended["dataset"]["version"], 960)
        assert (await client.get("/api/v1/users/c5/profile")).json()["long_term"]["taken"] == 16
        live = await world.registry.live_ids(TENANT)
        assert live == {"precomputed": ended["precompute"]["version"]}
        over_http = (await client.get("/api/v1/popular", params={"category": "tea", "n": 5})).json()
        assert (over_http["source"], len(over_http["items"])) == ("precomputed", 5)
        with grpc.insecure_channel(f"127.0.0.1:{shop.house.grpc_port}") as wire:
            over_grpc = RecommendationStub(wire).ListPopular(
                ListPopularRequest(category="tea", n=5), timeout=10,
                metadata=(("x-api-key", client.headers["X-API-Key"]),),
            )  # fmt: skip
        assert MessageToDict(over_grpc, preserving_proto_field_name=True) == {
            **over_http, "made_at": str(over_http["made_at"])
        }  # fmt: skip
