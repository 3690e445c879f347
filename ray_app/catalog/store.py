"""Stores: the shops of a chain. A store id belongs to one tenant, so that an event needs to name its store alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from ray_app.catalog.item import parse_attributes
from ray_app.catalog.tenant import SYSTEM
from ray_app.clock import Clock
from ray_app.errors import Forbidden, InvalidField, NotFound, Unavailable
from ray_app.events.schema import parse_id, refuse_unknown
from ray_app.stores.base import Document, Outcome, Where

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ray_app.stores.base import Documents

KIND = "stores"
FIELDS = ("title", "timezone", "attributes")
CLAIM_S = 60  # longer than the first write of a store takes


@dataclass(frozen=True, slots=True)
class Store:
    """`timezone`: an IANA name, in which the hours of its day are meant."""

    id: str
    tenant: str
    title: str = ""
    timezone: str = "UTC"
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def public(self) -> dict[str, Any]:
        return {
            "store_id": self.id, "tenant_id": self.tenant, "title": self.title, "timezone": self.timezone,
            "attributes": dict(self.attributes),
        }  # fmt: skip


def parse(id: str, tenant: str, raw: Mapping[str, Any]) -> Store:
    """Raises InvalidField for the first field that is not allowed."""
    refuse_unknown(raw, FIELDS)
    zone, title = raw.get("timezone", "UTC"), raw.get("title", "")
    if not isinstance(zone, str) or zone not in available_timezones():
        raise InvalidField("timezone", zone, "a name of the IANA time zones, as Europe/London")
    return Store(id, tenant, parse_id("title", title) if title else "", zone, parse_attributes(raw.get("attributes")))


class Stores:
    """All stores lie under the house itself, since their ids are those of all tenants."""

    def __init__(self, documents: Documents, redis: Redis, prefix: str, clock: Clock) -> None:
        self._documents, self._redis, self._prefix, self._clock = documents, redis, prefix, clock

    async def put(self, store: Store) -> None:
        """Written whole. Raises Forbidden where the id is another tenant's, Unavailable while the clock is behind."""
        await self._claim(store)
        body = {k: getattr(store, k) for k in Store.__slots__}
        (outcome,) = await self._documents.upsert(SYSTEM, KIND, [Document(store.id, self._clock.now(), body)])
        if outcome is Outcome.STALE:
            raise Unavailable(f"store {store.id!r} was not written: the clock is behind the last write's. Try again")

    async def get(self, id: str, tenant: str = SYSTEM) -> Store:
        """`tenant` SYSTEM: of any. Raises NotFound, also for a store of another tenant: nobody learns of it."""
        found = (await self.among([id])).get(id)
        if found is None or tenant not in (SYSTEM, found.tenant):
            raise NotFound(
                f"store {id!r} is unknown{'' if tenant == SYSTEM else f' to tenant {tenant!r}'}. "
                f"Make it: PUT /api/v1/stores/{id}", field="store_id", value=id,
            )  # fmt: skip
        return found

    async def among(self, ids: Sequence[str]) -> dict[str, Store]:
        """Those of `ids` that there are, whosever they are."""
        found = await self._documents.get_many(SYSTEM, KIND, list(dict.fromkeys(ids)))
        return {id: Store(**d.body) for id, d in found.items()}

    async def list(self, tenant: str, limit: int = 1000, after: str = "") -> list[Store]:
        """By id; `tenant` SYSTEM: of all tenants."""
        where = [] if tenant == SYSTEM else [Where("tenant", "eq", tenant)]
        return [Store(**d.body) for d in await self._documents.find(SYSTEM, KIND, where, limit, after)]

    async def _claim(self, store: Store) -> None:
        """Of two tenants that make one store at once, one has it: the documents alone could not tell who was first."""
        owner = await self._owner(store.id)
        if owner is None:
            key = f"{self._prefix}:store:{store.id}"
            taken = await self._redis.set(key, store.tenant, nx=True, ex=CLAIM_S)
            held: Any = None if taken else await self._redis.get(key)
            owner = await self._owner(store.id) or (held.decode() if held else store.tenant)
        if owner != store.tenant:
            raise Forbidden(f"store {store.id!r} belongs to another tenant. Choose another id for yours")

    async def _owner(self, id: str) -> str | None:
        found = (await self.among([id])).get(id)
        return found.tenant if found else None
