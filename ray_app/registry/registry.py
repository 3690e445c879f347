"""The registry: versions as documents, their arrays as checked files; never pickle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ray_app.clock import Clock
from ray_app.errors import InvalidField, NotFound, OtherEpoch, Unavailable
from ray_app.registry import artifact, pointer
from ray_app.registry.artifact import Parts
from ray_app.registry.code import code_version
from ray_app.registry.pointer import ROWS, Pointer
from ray_app.registry.version import Status, Version, epoch_of, from_body, move, to_body
from ray_app.stores.base import Document, Documents, Outcome

if TYPE_CHECKING:
    from ray_app.stores.blobs import Blobs

VERSIONS, LIVE = "versions", "live"


class Registry:
    """One tenant at a time. A name has at most one live version and one shadow. What may serve was checked before."""

    def __init__(self, documents: Documents, blobs: Blobs, clock: Clock) -> None:
        self._documents, self._blobs, self._clock = documents, blobs, clock

    async def register(
        self,
        tenant: str,
        name: str,
        parts: Parts,
        metrics: Mapping[str, float] | None = None,
        about: Mapping[str, Any] | None = None,
        covers: int = 0,
    ) -> Version:
        """Save the files and a staged version. The id is the time (ms) and a checksum of the content; `about` gets the
        version of the code, and the parent: what is live meanwhile."""
        bodies = artifact.encode(parts)
        sums, now = artifact.sums(bodies), self._clock.now()
        id = f"{now}-{sha256(''.join(sorted(sums.values())).encode()).hexdigest()[:8]}"
        for path, body in bodies.items():
            await asyncio.to_thread(self._blobs.put, f"{_folder(tenant, name, id)}/{path}", body)
        origin = {"code": code_version(), "parent": (await self.pointer(tenant, name)).live, **(about or {})}
        version = Version(name, id, now, sums, Status.STAGED, metrics or {}, origin, covers)
        await self._write(tenant, version)
        return version

    async def promote(self, tenant: str, version: Version) -> Version:
        """Make it the live one; the one before retires. A crash between the writes leaves the pointer as the truth.

        Raises BrokenArtifact when its files are not what was registered, OtherEpoch when it has other rows than what
        is live, and InvalidField for rows, which only `switch` moves; what is live then stays.
        """
        now = await self._movable(tenant, version)
        return await self._swap(tenant, version, now, now.to(version.id))

    async def rollback(self, tenant: str, name: str, to: str | None = None) -> Version:
        """What was live before, or `to` of what once was, is live again. Raises NotFound where there is none, and as
        `promote`."""
        now = await self.pointer(tenant, name)
        id = to or (now.past[0] if now.past else "")
        if id not in now.past:
            known = ", ".join(now.past) or "none"
            raise NotFound(
                f"{name} of tenant {tenant!r} cannot go back to {id or 'what was before'!r}. Live before: {known}",
                field="version", value=id,
            )  # fmt: skip
        version = await self.get(tenant, name, id)
        return await self._swap(tenant, version, await self._movable(tenant, version), now.back(id))

    async def switch(
        self, tenant: str, rows: Version, rebuilt: Sequence[Version], before: Mapping[str, str]
    ) -> list[str]:
        """The rows are those of `rows`, and `rebuilt` is live with them, all by one write; what was live or a shadow
        before retires. A crash behind that write leaves the pointer as the truth, and some statuses behind it.
        `before`: ids of what was live by name when they were made. Returns the names of which another one is live by
        now: then nothing has changed.

        Raises BrokenArtifact when a file is not what was registered; what is live then stays.
        """
        for v in (rows, *rebuilt):
            await self.check(tenant, v)
        found = await self.pointers(tenant)
        if moved := {n for n, _ in {n: p.live for n, p in found.items() if p.live}.items() ^ before.items()}:
            return sorted(moved)
        with_it = {v.name: v.id for v in rebuilt}
        await self._point(tenant, ROWS, replace(found.get(ROWS, Pointer()).to(rows.id), rebuilt=with_it))
        await self._write(tenant, move(replace(rows, about={**rows.about, "rebuilt": with_it}), Status.LIVE))
        for v in rebuilt:
            await self._write(tenant, move(v, Status.LIVE))
        for name, p in found.items():
            for id in (p.live, p.shadow):
                await self._retire(tenant, name, id)
        return []

    async def shadow(self, tenant: str, version: Version) -> Version:
        """Replicas load it beside the live one and log what it would have said; a shadow before it retires. Raises
        BrokenArtifact and OtherEpoch as `promote`."""
        now = await self._movable(tenant, version)
        if now.shadow == version.id:
            return version
        if now.live == version.id:
            raise InvalidField("status", Status.SHADOW.value, "for the live version: retired")
        beside = version if version.status is Status.SHADOW else move(version, Status.SHADOW)
        await self.check(tenant, version)
        await self._write(tenant, beside)
        await self._point(tenant, version.name, replace(now, shadow=version.id))
        await self._retire(tenant, version.name, now.shadow)
        return beside

    async def retire(self, tenant: str, version: Version) -> Version:
        """It serves no more; without a live version the product does what it did before the first one. Raises
        InvalidField for the live rows."""
        now = await self.pointer(tenant, version.name)
        if version.name == ROWS and now.live == version.id:
            raise _of_compaction(version)
        left = now.without(version.id)
        if left != now:
            await self._point(tenant, version.name, left)
        return await self._retire(tenant, version.name, version.id) or version

    async def forget(self, tenant: str, version: Version) -> None:
        """Its files and its entry are gone. Raises InvalidField for one that is live or the shadow."""
        if version.id in ((now := await self.pointer(tenant, version.name)).live, now.shadow):
            raise InvalidField("version", version.id, "one that neither serves nor is the shadow: retire it first")
        entry = Document(f"{version.name}/{version.id}", self._clock.now(), {}, deleted=True)
        await asyncio.to_thread(self._blobs.remove, _folder(tenant, version.name, version.id))
        await self._documents.upsert(tenant, VERSIONS, [entry])

    async def get(self, tenant: str, name: str, id: str) -> Version:
        """Raises NotFound."""
        found = await self._documents.get(tenant, VERSIONS, f"{name}/{id}")
        if found is None:
            raise NotFound(f"tenant {tenant!r} has no version {id!r} of {name!r}", field="version", value=id)
        return from_body(found.body)

    async def live(self, tenant: str, name: str) -> Version | None:
        """None where no version serves."""
        found = (await self.pointer(tenant, name)).live
        return await self.get(tenant, name, found) if found else None

    async def live_ids(self, tenant: str) -> dict[str, str]:
        """The live version's id by name."""
        return {name: p.live for name, p in (await self.pointers(tenant)).items() if p.live}

    async def pointer(self, tenant: str, name: str) -> Pointer:
        found = await self.pointers(tenant)
        return found.get(name, Pointer(epoch=found.get(ROWS, Pointer()).epoch))

    async def pointers(self, tenant: str) -> dict[str, Pointer]:
        """By name, ROWS among them once they were compacted: what a watcher polls."""
        found = await self._documents.find(tenant, LIVE, limit=100)
        return pointer.in_force({d.id: pointer.from_body(d.body) for d in found})

    async def epoch(self, tenant: str) -> str:
        """Of the rows that the items have now."""
        return (await self.pointer(tenant, ROWS)).epoch

    async def list(self, tenant: str, name: str | None = None) -> list[Version]:
        """The oldest first; of every name where none is given."""
        found = await self._documents.find(tenant, VERSIONS, limit=10_000)
        return [v for v in (from_body(d.body) for d in found) if name in (None, v.name)]

    async def load(self, tenant: str, version: Version) -> dict[str, Any]:
        """Its arrays, mapped from the node's disk, and the paths of its other files. Raises BrokenArtifact for a
        missing or changed file."""
        return await asyncio.to_thread(lambda: artifact.read(*self._files(tenant, version)))

    async def check(self, tenant: str, version: Version) -> None:
        """Raises BrokenArtifact for a missing or changed file."""
        await asyncio.to_thread(lambda: artifact.check(*self._files(tenant, version)))

    def _files(self, tenant: str, v: Version) -> tuple[Any, Mapping[str, str], str]:
        return self._blobs.local_folder(_folder(tenant, v.name, v.id)), v.files, f"{v.name} {v.id}"

    async def _swap(self, tenant: str, version: Version, now: Pointer, then: Pointer) -> Version:
        if now.live == version.id:
            return version
        raised = version if version.status is Status.LIVE else move(version, Status.LIVE)  # a cut promotion goes on
        await self.check(tenant, version)
        await self._write(tenant, raised)
        await self._point(tenant, version.name, then)
        await self._retire(tenant, version.name, now.live)
        return raised

    async def _movable(self, tenant: str, version: Version) -> Pointer:
        """Where its name points now."""
        if version.name == ROWS:
            raise _of_compaction(version)
        now = await self.pointer(tenant, version.name)
        if epoch_of(version) != now.epoch:
            raise OtherEpoch(version.name, version.id, epoch_of(version), now.epoch)
        return now

    async def _point(self, tenant: str, name: str, to: Pointer) -> None:
        written = Document(name, self._clock.now(), pointer.to_body(to))
        (outcome,) = await self._documents.upsert(tenant, LIVE, [written])
        if outcome is Outcome.STALE:
            raise Unavailable(f"{name} {to.live} is not live: the clock is behind the last promotion's")

    async def _retire(self, tenant: str, name: str, id: str) -> Version | None:
        if not id:
            return None
        found = await self.get(tenant, name, id)
        if found.status is not Status.RETIRED:
            found = move(found, Status.RETIRED)
            await self._write(tenant, found)
        return found

    async def _write(self, tenant: str, v: Version) -> None:
        await self._documents.upsert(tenant, VERSIONS, [Document(f"{v.name}/{v.id}", self._clock.now(), to_body(v))])


def _of_compaction(version: Version) -> InvalidField:
    allowed = f"any name but {ROWS}: they move only with all that was made for them. Run the job compact"
    return InvalidField("name", version.name, allowed)


def _folder(tenant: str, name: str, id: str) -> str:
    return f"{tenant}/models/{name}/{id}"
