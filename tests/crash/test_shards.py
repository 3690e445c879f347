"""kill -9 in the middle of similarity: the next run makes only what is missing, and the result is that of the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ray_app.models.itemcf import Fit, product
from ray_app.models.product import Product, nearest, spans
from ray_app.stores.blobs import Blobs
from ray_app.training.shards import Run, here, work
from ray_app.training.similarity import make_part
from ray_app.types import Interactions

ITEMS, USERS, EACH, K, PART = 400, 900, 12, 10, 4000
ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from tests.crash.test_shards import begun, here, work
run, parts = begun(sys.argv[1])
for part in here(work, run.missing(parts)):
    print(part.first, flush=True)
"""


def given() -> Product:
    drawn = np.random.default_rng(0)
    n = USERS * EACH
    users, rows = np.repeat(np.arange(USERS, dtype=np.int32), EACH), drawn.zipf(1.3, n) % ITEMS
    at = np.sort(1_700_000_000_000 + drawn.integers(0, 10**9, n))
    events = Interactions(users, rows.astype(np.int32), at, np.full(n, 5, np.float32), USERS, ITEMS)
    found = product(events, int(at[-1]), Fit())
    assert found is not None
    return found


def begun(place: str) -> tuple[Run, list]:  # type: ignore[type-arg]
    run = Run.begin(Blobs(Path(place)), "t/runs/similarity", {**given().arrays(), "k": np.array([K])})
    return run, run.parts(spans(Product.load(run.input()).cost(), PART), make_part)


def killed_after(parts: int, place: Path) -> None:
    """A process of its own makes parts until it is killed, while it makes the next."""
    line = [sys.executable, "-c", CHILD, str(place)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    for _ in range(parts):
        assert process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("kills", [1, 3])
@pytest.mark.long
def test_a_kill_costs_only_the_part_at_work(tmp_path: Path, kills: int) -> None:
    for k in range(kills):
        killed_after(2, tmp_path)
        run, parts = begun(str(tmp_path))
        done = len(parts) - len(run.missing(parts))
        assert 2 * (k + 1) <= done < len(parts)
    made = [part.first for part in here(work, run.missing(parts))]
    assert len(made) == len(parts) - done
    found = run.collect(parts)
    whole = nearest(given(), K)
    assert np.array_equal(found["neighbours"], whole[0])
    assert np.array_equal(found["weights"], whole[1])
