"""Parts of a run over two raylets on this host, and a fit that goes on after a kill -9 of its worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from ray_app.launch import ROOT

pytestmark = pytest.mark.timeout(1700)  # each start of a cluster and a worker takes a minute on a busy machine

TWO_RAYLETS = """
import sys, time
from pathlib import Path
import numpy as np, orjson, ray
from ray.cluster_utils import Cluster
from ray_app.stores.blobs import Blobs
from ray_app.training.build import make
from ray_app.training.distributed import gather, spread
from ray_app.training.shards import Run
from ray_app.training.shards import work
from tests.ray.parts import where, spans_of, GIVEN, SPANS
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
run = Run.begin(Blobs(Path(sys.argv[1])), "t/runs/where", GIVEN)
parts = run.parts(SPANS, where)
made = [p.first for p in spread(work, run.missing(parts))]
found = run.collect(parts)
files = spans_of(sys.argv[1])
notes = list(gather(make, files))
print(orjson.dumps({"files": sorted((n["name"], n["rows"]) for n in notes),
                    "made": made, "nodes": found["node"].tolist(), "twice": found["twice"].tolist(),
                    "known": [n["NodeID"] for n in ray.nodes()], "left": len(run.missing(parts))}).decode())
ray.shutdown()
cluster.shutdown()
"""


def alone(code: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may have a cluster of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env |= {
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "180",
        "RAY_TMPDIR": f"/tmp/lemo-two-{os.getpid()}",
        "PYTHONPATH": str(ROOT),
    }
    line = [sys.executable, "-c", code, str(folder), *more]
    return subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found: dict[str, object] = orjson.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_parts_are_made_on_both_raylets_and_a_dataset_by_ray_data(tmp_path: Path) -> None:
    found = last_line(alone(TWO_RAYLETS, tmp_path))
    assert len(found["known"]) == 2  # type: ignore[arg-type]
    assert set(found["nodes"]) == set(found["known"])  # type: ignore[call-overload]
    assert sorted(found["made"]) == list(range(0, 24, 3))  # type: ignore[call-overload]
    assert found["twice"] == list(range(0, 48, 2))
    assert found["left"] == 0
    assert found["files"] == [["later-60.parquet", 40], ["train-0.parquet", 60]]


FIT = """
import os, sys
from functools import partial
from pathlib import Path
import orjson, ray
from ray_app.stores.blobs import Blobs
from ray_app.training.distributed import fit_far
from tests.ray.parts import GIVEN, slowly
place = Path(sys.argv[1])
(place / "driver").write_text(str(os.getpid()))
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
told = []
found = fit_far(partial(slowly, place=place), GIVEN, Blobs(place / "blobs"), "t/runs/train", told.append)
print(orjson.dumps({"sum": float(found["sum"]), "begun": found["begun"].tolist(), "told": told}).decode())
ray.shutdown()
"""


@pytest.mark.parametrize("killed", ["the worker", "the driver"])
def test_a_fit_goes_on_from_its_last_checkpoint(tmp_path: Path, killed: str) -> None:
    """In its fourth epoch the worker ends as by kill -9; or the driver does, and with it its cluster."""
    (tmp_path / "kill").write_text(killed)
    first = alone(FIT, tmp_path)
    if killed == "the driver":
        assert first.returncode != 0
        first = alone(FIT, tmp_path)
    found = last_line(first)
    assert found["sum"] == 6 * 276  # six epochs over the sum of the input, none twice and none left out
    first_start, second_start = found["begun"]  # type: ignore[misc]
    assert first_start == 0
    assert 1 <= second_start <= 3  # three were told; the last may not have been taken note of when it was killed
    assert "epoch 6" in " ".join(found["told"])  # type: ignore[arg-type]
