"""The registry: versions as documents, their arrays as checked files; never pickle."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_app.clock import Clock
from ray_app.errors import BrokenArtifact, NotFound, Unavailable
from ray_app.models.base import Arrays
from ray_app.registry.version import Status, Version, from_body, move, to_body
from ray_app.stores.base import Document, Documents, Outcome

if TYPE_CHECKING:
    from ray_app.stores.blobs import Blobs

VERSIONS, LIVE = "versions", "live"


class Registry:
    """One tenant at a time. A name has at most one live version."""

    def __init__(self, documents: Documents, blobs: Blobs, clock: Clock) -> None:
        self._documents, self._blobs, self._clock = documents, blobs, clock

    async def register(
        self,
        tenant: str,
        name: str,
        arrays: Arrays,
        metrics: Mapping[str, float] | None = None,
        about: Mapping[str, Any] | None = None,
        covers: int = 0,
    ) -> Version:
        """Save the arrays and a staged version. The id is the time (ms) and a checksum of the content."""
        bodies = {f"{k}.npy": _npy(v) for k, v in arrays.items()}
        sums = {path: sha256(body).hexdigest() for path, body in bodies.items()}
        now = self._clock.now()
        id = f"{now}-{sha256(''.join(sorted(sums.values())).encode()).hexdigest()[:8]}"
        for path, body in bodies.items():
            await asyncio.to_thread(self._blobs.put, f"{_folder(tenant, name, id)}/{path}", body)
        version = Version(name, id, now, sums, Status.STAGED, metrics or {}, about or {}, covers)
        await self._write(tenant, version)
        return version

    async def promote(self, tenant: str, version: Version) -> Version:
        """Make it the live one; the one before retires. A crash between the writes leaves the pointer as the truth."""
        before = await self.live(tenant, version.name)
        if before is not None and before.id == version.id:
            return before
        raised = version if version.status is Status.LIVE else move(version, Status.LIVE)  # a cut promotion goes on
        await self._write(tenant, raised)
        pointer = Document(version.name, self._clock.now(), {"id": version.id})
        (outcome,) = await self._documents.upsert(tenant, LIVE, [pointer])
        if outcome is Outcome.STALE:
            raise Unavailable(f"{version.name} {version.id} is not live: the clock is behind the last promotion's")
        if before is not None:
            await self._write(tenant, move(before, Status.RETIRED))
        return raised

    async def get(self, tenant: str, name: str, id: str) -> Version:
        found = await self._documents.get(tenant, VERSIONS, f"{name}/{id}")
        if found is None:
            raise NotFound(f"tenant {tenant!r} has no version {id!r} of {name!r}", field="version", value=id)
        return from_body(found.body)

    async def live(self, tenant: str, name: str) -> Version | None:
        found = (await self.live_ids(tenant)).get(name)
        return await self.get(tenant, name, found) if found else None

    async def live_ids(self, tenant: str) -> dict[str, str]:
        """Version id by name: what a watcher polls."""
        return {d.id: str(d.body["id"]) for d in await self._documents.find(tenant, LIVE, limit=100)}

    async def list(self, tenant: str, name: str) -> list[Version]:
        found = await self._documents.find(tenant, VERSIONS, limit=10_000)
        return [v for v in (from_body(d.body) for d in found) if v.name == name]

    async def load(self, tenant: str, version: Version) -> dict[str, NDArray[Any]]:
        """Its arrays, mapped from the node's disk. Raises BrokenArtifact for a missing or changed file."""
        return await asyncio.to_thread(self._load, tenant, version)

    def _load(self, tenant: str, version: Version) -> dict[str, NDArray[Any]]:
        folder = self._blobs.local_folder(_folder(tenant, version.name, version.id))
        return {path.removesuffix(".npy"): _read(folder / path, version, sum) for path, sum in version.files.items()}

    async def _write(self, tenant: str, v: Version) -> None:
        await self._documents.upsert(tenant, VERSIONS, [Document(f"{v.name}/{v.id}", self._clock.now(), to_body(v))])


def _folder(tenant: str, name: str, id: str) -> str:
    return f"{tenant}/models/{name}/{id}"


def _npy(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def _read(path: Path, version: Version, wanted: str) -> NDArray[Any]:
    try:
        found = sha256(path.read_bytes()).hexdigest()
        if found != wanted:
            raise BrokenArtifact(
                f"{version.name} {version.id}: {path.name} has checksum {found[:12]}, registered was {wanted[:12]}"
            )
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as e:
        raise BrokenArtifact(f"{version.name} {version.id}: {path.name} cannot be read: {e}") from e
