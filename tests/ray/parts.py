"""What the tests of a spread run do in each part, and a fit that is killed in its middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.catalog.dataset import parse
from ray_app.training.build import Span

GIVEN = {"a": np.arange(24, dtype=np.int64)}
SPANS = [(k, k + 3) for k in range(0, 24, 3)]
BUSY_S = 0.3  # so long that one node cannot make all parts before the other has started


def spans_of(folder: str) -> list[Span]:
    """Of a Parquet source of a hundred rows, the last forty judge."""
    source, blobs = Path(folder) / "source.parquet", Path(folder) / "blobs"
    pq.write_table(pa.table({"occurred_at": list(range(100)), "item_id": ["i"] * 100}), source)
    wanted = parse({"name": "x", "source": f"parquet:{source}"})
    ends = [(0, 60, "train"), (60, 100, "later")]
    return [Span(blobs, "", "t", wanted, "t/datasets/x/1", a, b, side) for a, b, side in ends]


def where(given: Mapping[str, Any], first: int, last: int) -> dict[str, Any]:
    """Twice the input, and the node that made it."""
    import ray

    end = time.monotonic() + BUSY_S
    while time.monotonic() < end:
        np.sort(np.arange(1000))
    return {"twice": given["a"][first:last] * 2, "node": np.array([ray.get_runtime_context().get_node_id()])}


def slowly(
    given: Mapping[str, Any], epoch: Callable[[Mapping[str, Any]], None], resume: Mapping[str, Any] | None, place: Path
) -> dict[str, Any]:
    """Six epochs, each adds up the input; the file `kill` in `place` says who dies in the fourth, once."""
    done = int(resume["epoch"]) if resume else 0
    total = float(resume["sum"]) if resume else 0.0
    begun = [*(resume["begun"].tolist() if resume else []), done]
    for number in range(done, 6):
        if number == 3 and (place / "kill").exists():
            whom = (place / "kill").read_text()
            (place / "kill").unlink()
            os.kill(os.getpid() if whom == "the worker" else int((place / "driver").read_text()), signal.SIGKILL)
            time.sleep(60)  # the driver's end is this worker's
        total += float(given["a"].sum())
        epoch({"epoch": np.array(number + 1), "sum": np.array(total), "begun": np.array(begun)})
    return {"sum": np.array(total), "begun": np.array(begun)}
