"""What is past its age goes: old artifacts, lists, runs, alerts, tombstones, and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from ray_app.access.keys import Keys
from ray_app.catalog import lists
from ray_app.catalog.tenant import SYSTEM
from ray_app.operations.health import ALERTS
from ray_app.operations.stores import House
from ray_app.registry.pointer import ROWS, Pointer
from ray_app.registry.version import Status, Version
from ray_app.stores.base import Document, Documents, Where
from ray_app.streams.letters import Letters

PAGE = 1000
RUNS = "runs"
OVER = frozenset({Status.RETIRED, Status.STAGED})


async def caches(house: House) -> dict[str, int]:
    """{artifacts, lists, runs, alerts, tombstones}: how many went. Traces, metrics and results of tasks end by
    themselves, in Redis. Done again after a crash it goes on."""
    keep, now = house.settings.operations, house.clock.now()
    counts = {"artifacts": 0, "lists": 0, "runs": 0}
    for tenant in await Keys(house.documents, house.clock).tenants():
        counts["artifacts"] += await _artifacts(house, tenant)
        old = now - keep.list_keep_s * 1000
        counts["lists"] += await _delete(house.documents, tenant, lists.KIND, "made_at", old, now)
        old = now - keep.history_keep_s * 1000
        counts["runs"] += await _delete(house.documents, tenant, RUNS, "started_at", old, now)
    alerts = await _delete(house.documents, SYSTEM, ALERTS, "at", now - keep.history_keep_s * 1000, now)
    tombstones = await house.documents.drop_tombstones(now - house.settings.stores.tombstone_s * 1000)
    return {**counts, "alerts": alerts, "tombstones": tombstones}


async def letters(house: House) -> dict[str, int]:
    """{letters, tasks}: waiting dead letters of the topics, and those of the task queue, past their age."""
    before = house.clock.now() - house.settings.operations.letter_keep_s * 1000
    found = Letters(house.log, house.redis, house.settings.stores.redis_prefix)
    dropped = 0
    for topic in await found.topics():
        dropped += await found.drop(topic, lambda one: one.written_at < before)
    return {"letters": dropped, "tasks": await house.queue.drop_dead(before)}


async def _artifacts(house: House, tenant: str) -> int:
    """Versions that are retired or were only staged, beyond the newest `keep_versions` of their name, and beyond those
    to which a rollback goes first."""
    pointers, keep = await house.registry.pointers(tenant), house.settings.operations.keep_versions
    gone = over(await house.registry.list(tenant), pointers, keep)
    for version in gone:
        await house.registry.forget(tenant, version)
    return len(gone)


def over(versions: Sequence[Version], pointers: Mapping[str, Pointer], keep: int) -> list[Version]:
    """Those that may go."""
    rebuilt = set(pointers.get(ROWS, Pointer()).rebuilt.values())
    held = {id for p in pointers.values() for id in (p.live, p.shadow, *p.past[:keep])} | rebuilt
    newest = {v.id for name in {v.name for v in versions} for v in _newest(versions, name, keep)}
    return [v for v in versions if v.status in OVER and v.id not in held | newest]


def _newest(versions: Iterable[Version], name: str, keep: int) -> list[Version]:
    return sorted((v for v in versions if v.name == name), key=lambda v: v.made_at)[-keep:]


async def _delete(documents: Documents, tenant: str, kind: str, field: str, before: int, now: int) -> int:
    """Documents whose `field` (ms) is before."""
    count = 0
    while page := await documents.find(tenant, kind, [Where(field, "lte", before - 1)], PAGE):
        gone = [Document(d.id, max(now, d.version), {}, deleted=True) for d in page]
        await documents.upsert(tenant, kind, gone)
        count += len(page)
        await asyncio.sleep(0)
    return count
