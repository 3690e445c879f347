"""Jobs from a shell of their own, as README says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson

from ray_app.launch import ROOT
from tests.ray.conftest import Shop, until

BIN = Path(sys.executable).parent


def submit(shop: Shop, job: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LEMO_"))}
    env |= {"RAY_AUTH_MODE": "token", "PATH": f"{BIN}:{env['PATH']}", "RAY_API_SERVER_ADDRESS": shop.dashboard}
    line = [str(BIN / "ray"), "job", "submit", "--", "python", f"jobs/{job}.py", "--tenant", "demo"]
    return subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


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
