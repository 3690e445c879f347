"""Checkpoints of a far fit, without a cluster: they come back to the bit, and one that is not whole is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ray.train import Checkpoint

from ray_app.errors import BrokenArtifact
from ray_app.training.distributed import load, write

STATE = {"epoch": np.array(3), "now.items": np.arange(12, dtype=np.float32).reshape(3, 4), "step.items": np.array(7.0)}


def test_a_checkpoint_comes_back_to_the_bit_also_its_scalars(tmp_path: Path) -> None:
    write(tmp_path, STATE)
    found = load(Checkpoint.from_directory(tmp_path))
    assert set(found) == set(STATE)
    assert int(found["epoch"]) == 3
    for name, array in STATE.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize("how", ["cut", "changed", "missing", "without its sums"])
def test_a_checkpoint_that_is_not_whole_is_refused_with_the_reason(tmp_path: Path, how: str) -> None:
    write(tmp_path, STATE)
    file = tmp_path / ("sums.json" if how == "without its sums" else "now.items.npy")
    body = file.read_bytes()
    if how == "cut":
        file.write_bytes(body[:-1])
    elif how == "changed":
        file.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    else:
        file.unlink()
    with pytest.raises(BrokenArtifact, match=r"sums\.json|now\.items\.npy"):
        load(Checkpoint.from_directory(tmp_path))
