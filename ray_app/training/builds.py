"""What was built of a dataset: its page, its columns, and the whole as one file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ray_app.errors import BrokenArtifact, InvalidField, NotFound
from ray_app.stores.blobs import Blobs
from ray_app.training import tables
from ray_app.training.tables import Table

ABOUT = "about.json"
Note = Mapping[str, Any]  # what is known of a build, or of one of its files


def last(blobs: Blobs, tenant: str, name: str) -> dict[str, Any] | None:
    """The page of the newest build."""
    pages = [f for f in blobs.names(f"{tenant}/datasets/{name}") if f.endswith(f"/{ABOUT}")]
    newest = max(pages, key=lambda f: int(f.split("/")[0].partition("-")[2]), default=None)
    found: dict[str, Any] | None = (
        orjson.loads(blobs.get(f"{tenant}/datasets/{name}/{newest}") or b"") if newest else None
    )
    return found


def source_of(blobs: Blobs, tenant: str, name: str) -> str:
    """Of what the newest build is made; "" before the first."""
    page = last(blobs, tenant, name)
    return str(page["dataset"]["source"]) if page else ""


def columns(blobs: Blobs, tenant: str, name: str) -> tuple[str, dict[str, Any]]:
    """The id of the newest build and its columns as arrays.

    Raises NotFound before the first build, and BrokenArtifact for a file that is not what was built.
    """
    id, found = _newest(blobs, tenant, name)
    return id, {c: np.asarray(found[c].to_numpy(zero_copy_only=False)) for c in found.column_names}


def whole(blobs: Blobs, folder: str, page: Note) -> Table:
    """The files of a page, one below the other. Raises BrokenArtifact for one that is not what was built."""
    found = []
    for name, sum in page["files"].items():
        body = blobs.get(f"{folder}/{name}")
        if body is None or sha256(body).hexdigest() != sum:
            raise BrokenArtifact(f"{folder}: {name} is not what was built. Build the dataset again")
        found.append(tables.read(io.BytesIO(body)))
    return tables.joined(found)


def export(blobs: Blobs, tenant: str, name: str, into: Path) -> int:
    """The newest build as one Parquet file; returns its rows. Raises InvalidField for a file that is there, and as
    `columns`."""
    if into.exists():
        raise InvalidField("file", into, "a file that does not exist yet")
    _, found = _newest(blobs, tenant, name)
    with into.open("wb") as file:
        tables.write(found, file)
    return int(found.num_rows)


def _newest(blobs: Blobs, tenant: str, name: str) -> tuple[str, Table]:
    page = last(blobs, tenant, name)
    if page is None:
        raise NotFound(f"dataset {name!r} was not built yet. Build it: lemo dataset build {name}", value=name)
    return page["id"], whole(blobs, f"{tenant}/datasets/{name}/{page['id']}", page)
