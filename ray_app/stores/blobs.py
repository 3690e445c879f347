"""Blobs: files by path, in a folder or wherever fsspec reaches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import fsspec


class Blobs:
    """`place` is a folder, or a URL that fsspec knows."""

    def __init__(self, place: str | Path) -> None:
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
        self._fs, self._root = fsspec.core.url_to_fs(str(place))

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def put(self, path: str, body: bytes) -> None:
        """Whole or not at all for a folder: written beside, then renamed."""
        self._fs.makedirs(self._at(path).rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(self._at(path) + ".part", body)
        self._fs.mv(self._at(path) + ".part", self._at(path))

    def get(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        return cast(bytes, self._fs.cat_file(self._at(path)))

    def put_folder(self, local: Path, path: str) -> None:
        for file in sorted(p for p in local.rglob("*") if p.is_file()):
            self.put(f"{path}/{file.relative_to(local).as_posix()}", file.read_bytes())

    def local_folder(self, path: str) -> Path:
        """The folder itself, or a local copy of it for a store that is elsewhere."""
        if self._fs.protocol in ("file", ("file", "local")):
            return Path(self._at(path))
        copy = Path(tempfile.mkdtemp(prefix="lemo-blob-"))
        self._fs.get(self._at(path), str(copy / "it"), recursive=True)
        return copy / "it"

    def list(self, path: str) -> list[str]:
        """Paths of the files below, sorted."""
        found = self._fs.find(self._at(path))
        return sorted(f[len(self._root.rstrip("/")) + 1 :] for f in found)

    def exists(self, path: str) -> bool:
        return bool(self._fs.exists(self._at(path)))

    def delete(self, path: str) -> None:
        if self.exists(path):
            self._fs.rm(self._at(path), recursive=True)
