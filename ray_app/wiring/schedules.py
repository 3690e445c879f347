"""The scheduler, and the schedules that exist by default: an operator's change stays, and what was deleted does not
come back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_app import logs
from ray_app.clock import new_id
from ray_app.config import Settings
from ray_app.tasks.schedule import Schedule
from ray_app.tasks.schedules import Schedules
from ray_app.wiring.stores import World, world

if TYPE_CHECKING:
    from ray_app.tasks.scheduler_thread import Opened, SchedulerThread


def _entry(id: str, cron: str, note: str, handler: str = "", catch_up_s: int = 86400) -> Schedule:
    """What comes often is not worth catching up for long: the next one is near."""
    return Schedule(id=id, handler=handler or id, cron=cron, note=note, catch_up_s=catch_up_s)


DEFAULTS = (
    _entry("compute-item-similarity-hourly", "0 * * * *", "item-to-item neighbours"),
    _entry("update-user-profiles-2hours", "0 */2 * * *", "long-term profiles"),
    _entry("train-model-daily", "0 3 * * *", "dataset, train, evaluate, gate, register", catch_up_s=7 * 86400),
    _entry("precompute-recommendations-4hours", "0 */4 * * *", "lists of active users, popular lists"),
    _entry("cleanup-expired-cache-daily", "0 4 * * *", "expired caches, old traces, retired artifacts"),
    _entry("generate-item-vectors", "0 * * * *", "content and tower vectors"),
    _entry("health_check", "*/5 * * * *", "all stores, flows, lag, schedules", catch_up_s=300),
    _entry("hourly_collection", "0 * * * *", "content from all sources", handler="collect_all_sources"),
    _entry("daily_cleanup", "0 2 * * *", "content retention, dead letters past their age"),
    _entry("weekly_report", "0 6 * * 1", "report per tenant", catch_up_s=7 * 86400),
)


async def put_defaults(schedules: Schedules) -> list[str]:
    """Each is put once in the life of a Redis; returns the ids of those that were put now."""
    redis, put = schedules.redis, []
    for one in DEFAULTS:
        if await redis.sismember(schedules.given, one.id):
            continue
        if not await schedules.find([one.id]):
            await schedules.put(one)
            put.append(one.id)
        await redis.sadd(schedules.given, one.id)  # after the put: a crash between puts nothing twice
    return put


def schedules_of(w: World) -> Schedules:
    return Schedules(w.redis, w.settings.stores.redis_prefix, w.clock, w.settings.scheduler.ledger_keep)


def scheduler(settings: Settings) -> SchedulerThread:
    """The scheduler's loop, which opens its connections in its own thread."""
    from ray_app.tasks.scheduler_thread import SchedulerThread

    logs.start(settings.logs.level)
    return SchedulerThread(partial(open_scheduler, settings, new_id()))


async def open_scheduler(settings: Settings, owner: str) -> Opened:
    """With the default schedules, which are put once."""
    from ray_app.stores.redis import refuse_cluster
    from ray_app.tasks.scheduler import Scheduler
    from ray_app.tasks.scheduler_thread import Opened

    w = world(settings)
    try:
        await refuse_cluster(w.redis)
        known = schedules_of(w)
        await put_defaults(known)
    except BaseException:  # it is tried again, with other connections
        await w.close()
        raise
    return Opened(Scheduler(known, w.queue, settings.scheduler, w.clock, owner), w.close)
