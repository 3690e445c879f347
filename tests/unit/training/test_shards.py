"""Work in parts: only what is missing is made, and nothing that is not whole counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app.errors import BrokenArtifact
from ray_app.stores.blobs import Blobs
from ray_app.training.shards import Part, Run, here, work

GIVEN = {"a": np.arange(10, dtype=np.int64)}
SPANS = [(0, 4), (4, 8), (8, 10)]


def doubled(given: Mapping[str, Any], first: int, last: int) -> dict[str, Any]:
    return {"twice": given["a"][first:last] * 2}


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def begun(blobs: Blobs) -> tuple[Run, list[Part]]:
    run = Run.begin(blobs, "t/runs/x", GIVEN)
    return run, run.parts(SPANS, doubled)


def test_parts_stand_one_below_the_other(blobs: Blobs) -> None:
    run, parts = begun(blobs)
    assert run.missing(parts) == parts
    assert list(here(work, parts)) == parts
    assert run.missing(parts) == []
    assert run.collect(parts)["twice"].tolist() == list(range(0, 20, 2))


def test_a_run_of_the_same_input_goes_on_and_other_input_is_another_run(blobs: Blobs) -> None:
    run, parts = begun(blobs)
    work(parts[1])
    again, same = begun(Blobs(blobs.place))
    assert again.folder == run.folder
    assert again.missing(same) == [parts[0], parts[2]]
    other = Run.begin(blobs, "t/runs/x", {"a": np.arange(11)})
    assert other.folder != run.folder
    assert len(other.missing(other.parts(SPANS, doubled))) == 3


@pytest.mark.parametrize("how", ["cut", "changed", "missing", "without its note"])
def test_a_part_that_is_not_whole_is_made_again_and_never_read(blobs: Blobs, tmp_path: Path, how: str) -> None:
    run, parts = begun(blobs)
    list(here(work, parts))
    file = tmp_path / "blobs" / f"{parts[1].name}.twice.npy"
    body = file.read_bytes()
    if how == "cut":
        file.write_bytes(body[:-3])
    elif how == "changed":
        file.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    elif how == "missing":
        file.unlink()
    else:
        (tmp_path / "blobs" / f"{parts[1].name}.json").unlink()
    assert run.missing(parts) == [parts[1]]
    with pytest.raises(ValueError, match=f"part {parts[1].name} is not whole"):
        run.collect(parts)
    work(parts[1])
    assert run.collect(parts)["twice"].tolist() == list(range(0, 20, 2))


def test_input_that_is_not_whole_is_refused(blobs: Blobs, tmp_path: Path) -> None:
    run, parts = begun(blobs)
    (tmp_path / "blobs" / run.folder / "input" / "a.npy").write_bytes(b"half")
    with pytest.raises(BrokenArtifact, match=r"a\.npy has checksum"):
        work(parts[0])


def test_a_run_is_removed_whole(blobs: Blobs) -> None:
    run, parts = begun(blobs)
    list(here(work, parts))
    run.remove()
    assert blobs.names("t") == []
    run.remove()
