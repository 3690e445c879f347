"""What operators do with versions: look, promote, shadow, roll back, retire, and compare a shadow with what is live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_app.analytics import examples
from ray_app.errors import InvalidField
from ray_app.registry.registry import Registry
from ray_app.registry.version import Status, Version, to_body
from ray_app.registry.watch import RANKER
from ray_app.types import DAY_MS

if TYPE_CHECKING:
    from ray_app.clock import Clock
    from ray_app.stores.olap import Olap


class Models:
    """Of any tenant; who may is asked at the door."""

    def __init__(self, registry: Registry, olap: Olap, clock: Clock) -> None:
        self._registry, self._olap, self._clock = registry, olap, clock

    async def versions(self, tenant: str, name: str | None = None) -> list[Version]:
        """The newest first."""
        return sorted(await self._registry.list(tenant, name), key=lambda v: (v.made_at, v.id), reverse=True)

    async def show(self, tenant: str, name: str, id: str) -> dict[str, Any]:
        """The version with its lineage, and whether its files are what was registered."""
        version = await self._registry.get(tenant, name, id)
        try:
            await self._registry.check(tenant, version)
            broken = ""
        except Exception as e:  # whatever reading foreign files can raise is what is asked for
            broken = str(e)
        return {**public(version), "files": dict(version.files), "broken": broken}

    async def move(self, tenant: str, name: str, id: str, to: str) -> Version:
        """`to` is live, shadow or retired. Raises InvalidField, NotFound and BrokenArtifact."""
        version = await self._registry.get(tenant, name, id)
        if to == Status.LIVE.value:
            return await self._registry.promote(tenant, version)
        if to == Status.RETIRED.value:
            return await self._registry.retire(tenant, version)
        if to != Status.SHADOW.value:
            raise InvalidField("status", to, "live, shadow, retired")
        if name != RANKER:
            raise InvalidField("name", name, f"{RANKER}: no other model scores the items of an answer")
        return await self._registry.shadow(tenant, version)

    async def rollback(self, tenant: str, name: str, to: str | None = None) -> Version:
        """Raises NotFound where nothing was live before, or `to` was not."""
        return await self._registry.rollback(tenant, name, to)

    async def compare(self, tenant: str, days: int) -> list[dict[str, Any]]:
        """The shadows of the last days beside what was live; see analytics/examples.sql."""
        now = self._clock.now()
        return await examples.shadow(self._olap, examples.Asked(tenant, now - days * DAY_MS, now + 1))


def public(v: Version) -> Mapping[str, Any]:
    """As the wire has it; the files are left to `show`."""
    return {k: value for k, value in to_body(v).items() if k != "files"}
