"""The files of a version: arrays as .npy, and other formats that hold data alone. Never pickle; each has a checksum."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.errors import BrokenArtifact, InvalidField

Parts = Mapping[str, NDArray[Any] | bytes]
FORMATS = (".json", ".parquet", ".safetensors", ".faiss", ".txt")  # the last is LightGBM's own


def encode(parts: Parts) -> dict[str, bytes]:
    """Files by name: an array `a` becomes `a.npy`; bytes stand under a name that ends in one of FORMATS.

    Raises InvalidField for another format, and ValueError for an array of objects.
    """
    return {_file(name, part): part if isinstance(part, bytes) else npy(part) for name, part in parts.items()}


def sums(files: Mapping[str, bytes]) -> dict[str, str]:
    """The sha256 of each file."""
    return {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}


def read(folder: Path, wanted: Mapping[str, str], named: str) -> dict[str, Any]:
    """Arrays mapped from the disk by name, and the path of each other file, all with the checksum that is `wanted`.

    Raises BrokenArtifact, which begins with `named`, for a file that is missing, cut or changed.
    """
    check(folder, wanted, named)
    return {name.removesuffix(".npy"): _read(folder / name, named) for name in wanted}


def check(folder: Path, wanted: Mapping[str, str], named: str) -> None:
    """Raises BrokenArtifact for a file that is missing, cut or changed."""
    for name, sum in wanted.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as e:
            raise BrokenArtifact(f"{named}: {name} cannot be read: {e}") from e
        if found != sum:
            size = (folder / name).stat().st_size
            raise BrokenArtifact(
                f"{named}: {name} has checksum {found[:12]} at {size:,} bytes, registered was {sum[:12]}"
            )


def _file(name: str, part: NDArray[Any] | bytes) -> str:
    if not isinstance(part, bytes):
        return f"{name}.npy"
    if not name.endswith(FORMATS):
        raise InvalidField("file", name, f"arrays, or bytes under a name that ends in {', '.join(FORMATS)}")
    return name


def npy(array: NDArray[Any]) -> bytes:
    """The file of one array, also of one without dimensions. Raises ValueError for an array of objects."""
    out = io.BytesIO()
    np.save(out, np.asarray(array, order="C"), allow_pickle=False)
    return out.getvalue()


def _read(path: Path, named: str) -> Any:
    if path.suffix != ".npy":
        return path
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as e:
        raise BrokenArtifact(f"{named}: {path.name} cannot be read: {e}") from e
