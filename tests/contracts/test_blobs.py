"""Blobs in a folder and on S3."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray_app.errors import InvalidSettings, Unavailable
from ray_app.stores.blobs import Blobs
from tests.services.s3 import S3Server

ADAPTERS = ("folder", "folder by URL", "s3")
Open = Callable[[], Blobs]


@pytest.fixture(params=ADAPTERS)
def open_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Every call opens the same blobs once more, as another process would."""
    places: dict[str, Callable[[], str | Path]] = {
        "folder": lambda: tmp_path / "deep" / "blobs", "folder by URL": lambda: f"file://{tmp_path}/blobs",
        "s3": lambda: str(request.getfixturevalue("s3_url")),
    }  # fmt: skip
    place = places[request.param]()
    return lambda: Blobs(place)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_comes_back_as_it_was_put(open_blobs: Open) -> None:
    writer, large = open_blobs(), bytes(range(256)) * 40_000
    writer.put("t/models/m/7/a.npy", large)
    writer.put("t/models/m/7/sub/empty", b"")
    writer.put("t/models/m/70/other", b"x")
    assert files(open_blobs().local_folder("t/models/m/7")) == {"a.npy": large, "sub/empty": b""}
    assert files(open_blobs().local_folder("t/models/m")) == {"7/a.npy": large, "7/sub/empty": b"", "70/other": b"x"}


def test_what_is_absent_is_a_folder_that_does_not_exist(open_blobs: Open) -> None:
    blobs = open_blobs()
    assert not blobs.local_folder("t/models/m/8").exists()
    blobs.put("t/models/m/8/a", b"now")
    assert files(blobs.local_folder("t/models/m/8")) == {"a": b"now"}


def test_one_file_is_read_listed_and_removed(open_blobs: Open) -> None:
    blobs = open_blobs()
    assert (blobs.get("t/run/a"), blobs.names("t/run")) == (None, [])
    blobs.put("t/run/a", b"1")
    blobs.put("t/run/deep/b", b"2")
    blobs.put("t/run-2/c", b"3")
    assert (blobs.get("t/run/a"), open_blobs().get("t/run/deep/b")) == (b"1", b"2")
    assert blobs.names("t/run") == ["a", "deep/b"]
    assert blobs.local_folder("t/run").exists()
    for _ in range(2):
        blobs.remove("t/run")
    assert (blobs.get("t/run/a"), blobs.names("t/run"), blobs.names("t/run-2")) == (None, [], ["c"])


def test_the_tenants_are_apart(open_blobs: Open) -> None:
    blobs = open_blobs()
    blobs.put("shop/m/1", b"shop")
    blobs.put("shop-2/m/1", b"shop-2")
    assert files(blobs.local_folder("shop")) == {"m/1": b"shop"}
    assert files(blobs.local_folder("shop-2")) == {"m/1": b"shop-2"}


def test_a_reader_sees_the_whole_blob_or_none(open_blobs: Open) -> None:
    writer, reader, body, done = open_blobs(), open_blobs, b"x" * 3_000_000, threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            file = reader().local_folder("t/a") / "it"
            if file.exists():
                seen.add(len(file.read_bytes()))

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read)
        for _ in range(5):
            writer.put("t/a/it", body)
        done.set()
        reading.result()
    assert seen <= {len(body)}
    assert files(reader().local_folder("t/a")) == {"it": body}


def test_the_peer_says_its_version(open_blobs: Open, capsys: pytest.CaptureFixture[str]) -> None:
    version = open_blobs().version()
    with capsys.disabled():
        print(f"\nblobs: {version}")
    assert version.startswith(("folder", "S3 server"))


def test_a_copy_is_made_once_and_ends_with_its_owner(s3_url: str) -> None:
    blobs = Blobs(s3_url)
    blobs.put("t/m/1/a", b"1")
    folder = blobs.local_folder("t/m/1")
    (folder / "a").write_bytes(b"the copy")
    assert blobs.local_folder("t/m/1") == folder
    assert files(folder) == {"a": b"the copy"}
    del blobs
    assert not folder.exists()


def test_processes_share_copies_in_a_folder_that_they_are_given(s3_url: str, tmp_path: Path) -> None:
    writer = Blobs(s3_url)
    for k in range(20):
        writer.put(f"t/m/1/{k}", b"%d" % k)
    several = [Blobs(s3_url, tmp_path / "copies") for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        folders = list(threads.map(lambda b: b.local_folder("t/m/1"), several))
    assert set(folders) == {tmp_path / "copies" / "t/m/1"}
    assert files(tmp_path / "copies") == {f"t/m/1/{k}": b"%d" % k for k in range(20)}


@pytest.fixture
def s3_again(s3: S3Server) -> Iterator[S3Server]:
    yield s3
    s3.kill()


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_server_that_is_away_or_hangs_is_unavailable_soon(s3_url: str, s3_again: S3Server, how: str) -> None:
    blobs = Blobs(s3_url, timeout_s=2)
    blobs.put("t/a", b"x")
    getattr(s3_again, how)()
    for call in (lambda: blobs.put("t/a", b"x"), lambda: blobs.local_folder("t"), blobs.version):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="blobs at s3://"):
            call()
        assert time.monotonic() - began < 10


def test_a_bucket_that_is_not_there_is_named(s3_url: str) -> None:
    blobs = Blobs("s3://no-such-bucket/blobs")
    for call in (lambda: blobs.put("t/a", b"x"), blobs.version):
        with pytest.raises(Unavailable, match="no-such-bucket"):
            call()


def test_an_unknown_kind_of_url_is_refused_without_its_password() -> None:
    with pytest.raises(InvalidSettings, match="blobs_url") as caught:
        Blobs("nothing://me:s3cret@host/path")
    assert "s3cret" not in str(caught.value)
