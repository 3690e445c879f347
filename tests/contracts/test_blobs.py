"""Blobs in a folder and in another store of fsspec (its memory stands for S3: nothing local lies behind it)."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from ray_app.stores.blobs import Blobs

ADAPTERS = ("folder", "folder by URL", "memory")


@pytest.fixture(params=ADAPTERS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs({
        "folder": tmp_path / "deep" / "blobs", "folder by URL": f"file://{tmp_path}/blobs",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[request.param])  # fmt: skip


def test_what_is_put_is_got(blobs: Blobs) -> None:
    blobs.put("models/demo/a.npy", b"\x00\xff" * 1000)
    assert blobs.get("models/demo/a.npy") == b"\x00\xff" * 1000
    blobs.put("models/demo/a.npy", b"")
    assert blobs.get("models/demo/a.npy") == b""


def test_what_is_absent(blobs: Blobs) -> None:
    assert not blobs.exists("models/a")
    assert blobs.list("models") == []
    blobs.delete("models")
    with pytest.raises(FileNotFoundError):
        blobs.get("models/a")


def test_a_list_has_all_files_below_and_nothing_else(blobs: Blobs) -> None:
    for path in ("m/b/2", "m/a", "m/b/1", "other/x"):
        blobs.put(path, path.encode())
    assert blobs.list("m") == ["m/a", "m/b/1", "m/b/2"]
    assert [blobs.get(p) for p in blobs.list("m")] == [b"m/a", b"m/b/1", b"m/b/2"]


def test_a_folder_goes_there_and_comes_back(blobs: Blobs, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    (made / "meta.json").write_text("{}")
    (made / "sub" / "x.bin").write_bytes(b"123")
    blobs.put_folder(made, "versions/7")
    here = blobs.local_folder("versions/7")
    assert {p.relative_to(here).as_posix(): p.read_bytes() for p in here.rglob("*") if p.is_file()} == {
        "meta.json": b"{}", "sub/x.bin": b"123",
    }  # fmt: skip


def test_a_delete_takes_one_file_or_a_whole_folder(blobs: Blobs) -> None:
    for path in ("m/1/a", "m/1/b", "m/2/a"):
        blobs.put(path, b"x")
    blobs.delete("m/1")
    assert blobs.list("m") == ["m/2/a"]
    blobs.delete("m/2/a")
    assert not blobs.exists("m/2/a")
