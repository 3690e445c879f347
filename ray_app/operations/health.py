"""Whether all is well: every store, the flows, the tasks and the models' age; what changed is an alert, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import orjson

from ray_app.access.keys import Keys
from ray_app.catalog.tenant import SYSTEM
from ray_app.errors import LemoError
from ray_app.events.base import Entry
from ray_app.operations.pool import Pool
from ray_app.operations.stores import House
from ray_app.registry.watch import EMBEDDER, RANKER
from ray_app.stores.base import Document
from ray_app.tasks.pools import pools
from ray_app.types import DAY_MS

logger = logging.getLogger(__name__)
STATUS, HEALTH, ALERTS = "status", "health", "alerts"
TIMEOUT_S = 5.0
MOST_UNTOLD = 1000
OLD_DAYS = 30  # of a ranker: visitors' taste and the shop's goods have moved on
FAILED, RECOVERED = "failed", "recovered"
Event = dict[str, Any]
Look = Callable[[], Awaitable[str]]  # what is wrong, "" for nothing


@dataclass(frozen=True, slots=True)
class Part:
    """`why` is "" where it is well; `since`: of this verdict (ms)."""

    why: str
    since: int


@dataclass(frozen=True, slots=True)
class Alert:
    """One change: `part` failed, or recovered after `why`."""

    part: str
    state: str
    why: str
    at: int


async def check(house: House, pool: Pool, more: Mapping[str, Look] | None = None) -> dict[str, Any]:
    """{status, parts, failed, alerts}, and the same as the document `health` of the house. Each alert is a document of
    its own, written before the status under an id made of the verdict that it ends: a check that was cut makes the
    same one again. `more`: further parts by name."""
    now, looks = house.clock.now(), {**_looks(house, pool), **(more or {})}
    found = dict(zip(looks, await asyncio.gather(*(_looked(look) for look in looks.values())), strict=True))
    before, untold = await last(house)
    parts = {name: _part(why, before.get(name), now) for name, why in found.items()}
    alerts = [a for name, part in parts.items() if (a := _change(name, part, before.get(name), now))]
    for alert in alerts:
        logger.warning("%s %s", alert.part, alert.state, extra={"why": alert.why})
    since = {name: part.since for name, part in before.items()}
    written = [Document(f"{since.get(a.part, 0):015d}-{a.part}-{a.state}", now, asdict(a)) for a in alerts]
    if written:
        await house.documents.upsert(SYSTEM, ALERTS, written)
    failed = sorted(name for name, part in parts.items() if part.why)
    status = "failing" if failed else "well"
    body = {
        "status": status, "at": now, "failed": failed, "parts": {n: asdict(p) for n, p in parts.items()},
        "untold": await _tell(house, [*untold, *(_event(d) for d in written)]),
    }  # fmt: skip
    await house.documents.upsert(SYSTEM, STATUS, [Document(HEALTH, now, body)])
    return {**body, "alerts": [asdict(a) for a in alerts]}


async def last(house: House) -> tuple[dict[str, Part], list[Event]]:
    """The verdicts of the check before, by part, and the events that the log did not take."""
    found = await house.documents.get(SYSTEM, STATUS, HEALTH)
    if found is None:
        return {}, []
    return {name: Part(**part) for name, part in found.body["parts"].items()}, list(found.body.get("untold", ()))


def _event(alert: Document) -> Event:
    return {"event_id": alert.id, "event_type": f"alert.{alert.body['state']}", **alert.body}


async def _tell(house: House, events: list[Event]) -> list[Event]:
    """What the log did not take, for the next check."""
    if not events:
        return []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            entries = [Entry(e["part"], orjson.dumps(e)) for e in events]
            await house.log.append(house.settings.events.alert_topic, entries)
    except (LemoError, OSError) as e:  # TimeoutError is an OSError
        logger.warning("alerts could not be appended", extra={"why": str(e)[:300]})
        return events[-MOST_UNTOLD:]
    return []


def _part(why: str, before: Part | None, now: int) -> Part:
    same = before is not None and bool(before.why) == bool(why)
    return Part(why, before.since if before is not None and same else now)


def _change(name: str, part: Part, before: Part | None, now: int) -> Alert | None:
    """None where nothing changed; what is well at the first check is no news."""
    if bool(part.why) == bool(before.why if before else ""):
        return None
    return Alert(name, FAILED if part.why else RECOVERED, part.why or (before.why if before else ""), now)


def _looks(house: House, pool: Pool) -> dict[str, Look]:
    stores: Mapping[str, Callable[[], Awaitable[Any]]] = {
        "documents": lambda: house.documents.count(SYSTEM, "keys"),
        "state": lambda: house.redis.ping(),
        "vectors": lambda: house.vectors.load(SYSTEM, "check"),
        "analytics": lambda: house.olap.query("SELECT 1"),
        "event log": lambda: house.log.version(),
        "blobs": lambda: asyncio.to_thread(house.blobs.version),
    }

    async def asked(store: str) -> str:
        await stores[store]()
        return ""

    return {
        **{store: partial(asked, store) for store in stores},
        "flows": lambda: _flows(house, pool),
        "tasks": lambda: _tasks(house),
        "models": lambda: _models(house),
    }


async def _looked(look: Look) -> str:
    """Whatever it raises is what is wrong."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await look()
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except Exception as e:  # of libraries too: that it fails is what is asked for
        return f"{type(e).__name__}: {e}"[:300]


async def _flows(house: House, pool: Pool) -> str:
    most, found = house.settings.operations.most_lag, await pool.list()
    late = [s for s in found if not s.paused and (s.lag > most or (s.lag and not s.members))]
    return "; ".join(f"{s.flow} is {s.lag:,} events behind, {s.members} replicas hold it" for s in late)


async def _tasks(house: House) -> str:
    most = house.settings.operations.oldest_task_s
    served = {queue for pool in pools(house.settings.tasks).values() for queue in pool.queues}
    lines = await house.queue.lengths(sorted(served))
    return "; ".join(f"queue {x.queue}: the oldest waits for {x.oldest_s:.0f} s" for x in lines if x.oldest_s > most)


async def _models(house: House) -> str:
    """Rankers and embedders that are live for longer than OLD_DAYS."""
    old = []
    for tenant in await Keys(house.documents, house.clock).tenants():
        for name in (RANKER, EMBEDDER):
            live = await house.registry.live(tenant, name)
            if live and house.clock.now() - live.made_at > OLD_DAYS * DAY_MS:
                days = (house.clock.now() - live.made_at) // DAY_MS
                old.append(f"{name} of {tenant} is {days} days old")
    return "; ".join(old[:20])
