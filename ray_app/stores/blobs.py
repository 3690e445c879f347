"""Blobs: files by path, in a folder or wherever fsspec reaches; s3:// needs the extra `served`."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec.asyn

from ray_app.errors import InvalidSettings, Unavailable
from ray_app.stores.url import without_credentials

T = TypeVar("T")
SLOWEST = 1024 * 1024  # bytes a second that a transfer gets beside the timeout


class Blobs:
    """`place`: a folder, or a URL that fsspec knows. For s3://bucket/path the AWS_ variables say where
    (AWS_ENDPOINT_URL) and who; the bucket must exist. A path that was written is never written again: a copy of it
    stays right.

    `copies`: the folder for local copies of what is elsewhere, which the processes of a node may share; without it,
    every process has one of its own until it ends. Raises Unavailable when the place is away or refuses.
    """

    def __init__(self, place: str | Path, copies: Path | None = None, timeout_s: float = 20.0) -> None:
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
        self._shown = without_credentials(place) if isinstance(place, str) else str(place)
        self._fs, root = _open(str(place), self._shown)
        self._root, self._timeout_s = root.rstrip("/"), timeout_s
        self._kinds = (self._fs.protocol,) if isinstance(self._fs.protocol, str) else tuple(self._fs.protocol)
        self._local = "file" in self._kinds
        self.place, self.copies, self._copying = place, copies, threading.Lock()
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def put(self, path: str, body: bytes) -> None:
        """Whole or not at all: a folder gets it under another name first, other stores show nothing before its end."""
        at = f"{self._root}/{path}"
        part = at + ".part" if self._local else at

        def work() -> None:
            if self._local:
                self._fs.makedirs(at.rsplit("/", 1)[0], exist_ok=True)
            self._call("pipe_file", part, body, bytes=len(body))
            if part != at:
                self._fs.mv(part, at)

        self._do(work)

    def local_folder(self, path: str) -> Path:
        """A folder with the files below `path`: the one in the store itself, or a copy, made at the first call. It does
        not exist when there is nothing."""
        at = f"{self._root}/{path}"
        if self._local:
            return Path(at)
        with self._copying:
            copy = self._folder_of_copies() / path
            if not copy.exists():
                self._do(lambda: self._copy(at, copy))
            return copy

    def get(self, path: str) -> bytes | None:
        """None when nothing is there. It reads the store itself and keeps no copy."""
        at = f"{self._root}/{path}"

        def work() -> bytes | None:
            try:
                return bytes(self._call("cat_file", at))
            except FileNotFoundError:
                return None

        return self._do(work)

    def names(self, path: str) -> list[str]:
        """Every file below `path`, relative to it, in order."""
        at = f"{self._root}/{path}"
        return sorted(f.removeprefix(f"{at}/") for f in self._do(lambda: self._below(at)) if not f.endswith(".part"))

    def remove(self, path: str) -> None:
        """Everything below `path`, and this node's copy of it; nothing happens when nothing is there."""
        at = f"{self._root}/{path}"

        def work() -> None:
            if self._call("exists", at):
                self._call("rm", at, recursive=True)
            if self.copies is not None:
                shutil.rmtree(self.copies / path, ignore_errors=True)

        self._do(work)

    def version(self) -> str:
        """What holds the blobs, and its version. One round trip."""
        library = f"fsspec {importlib.metadata.version('fsspec')}"
        if "s3" in self._kinds:
            answer = self._do(lambda: self._call("call_s3", "head_bucket", Bucket=self._root.split("/")[0]))
            server = answer["ResponseMetadata"]["HTTPHeaders"].get("server", "without a name")
            return f"S3 server {server}, s3fs {importlib.metadata.version('s3fs')}"
        self._do(lambda: self._call("exists", self._root))
        return f"{'folder' if self._local else self._kinds[0]}, {library}"

    def _copy(self, at: str, copy: Path) -> None:
        """Made beside and renamed, so that no process ever finds a part of it."""
        part = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}.part")
        try:
            for file, about in self._below(at).items():
                target = part / file.removeprefix(f"{at}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                self._call("get_file", file, str(target), bytes=int(about["size"] or 0))
            if part.exists():
                part.rename(copy)
        except OSError:
            if not copy.exists():  # else another process was first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _below(self, at: str) -> dict[str, Any]:
        """What is known of each file below. s3fs names the folder itself when its first file comes while it looks."""
        found = self._call("find", at, detail=True)
        return {file: about for file, about in found.items() if file.startswith(f"{at}/")}

    def _folder_of_copies(self) -> Path:
        if self.copies is not None:
            return self.copies
        if self._own is None:
            self._own = tempfile.TemporaryDirectory(prefix="lemo-blobs-")  # removed with us, or at exit
        return Path(self._own.name)

    def _call(self, name: str, *arguments: Any, bytes: int = 0, **options: Any) -> Any:
        """A method of the file system, with a time limit: s3fs waits without end for a server that hangs."""
        if not self._fs.async_impl:
            return getattr(self._fs, name)(*arguments, **options)
        limit_s = self._timeout_s + bytes / SLOWEST
        return fsspec.asyn.sync(self._fs.loop, getattr(self._fs, f"_{name}"), *arguments, timeout=limit_s, **options)

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as e:  # the libraries below fsspec have a tree of errors each
            raise Unavailable(f"blobs at {self._shown} did not answer: {str(e)[:300] or type(e).__name__}") from e


def _open(place: str, shown: str) -> tuple[Any, str]:
    """Neither listings nor the connection are shared with others: both would be as old as their first use."""
    try:
        fs, root = fsspec.core.url_to_fs(place, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as e:
        raise InvalidSettings(f"setting stores.blobs_url is {shown!r}: {e}. pip install 'lemo[served]'") from e
    except ValueError as e:
        raise InvalidSettings(f"setting stores.blobs_url is {shown!r}: {e}; allowed: s3://bucket/path") from e
    return fs, str(root)
