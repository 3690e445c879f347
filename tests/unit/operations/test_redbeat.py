"""Entries that celery-redbeat itself has written become schedules of ours, or are named with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule
from redis.asyncio import Redis

from ray_app.operations.redbeat import Found, read
from ray_app.tasks.due import preview
from ray_app.tasks.names import Names
from ray_app.tasks.schedule import Schedule, written
from tests.schedules_world import HANDLERS, at

NAMES = Names(HANDLERS)


class Beat:
    """An old system: an app with RedBeat on this Redis."""

    def __init__(self, url: str, prefix: str = "redbeat:") -> None:
        self.app = Celery("old", broker=url, set_as_current=False)
        self.app.conf.update(redbeat_redis_url=url, redbeat_key_prefix=prefix, redbeat_redis_options={})

    def save(self, name: str, when: Any, task: str = "old.tasks.works", **more: Any) -> RedBeatSchedulerEntry:
        entry = RedBeatSchedulerEntry(name, task, when, app=self.app, **more)
        entry.save()
        return entry

    def close(self) -> None:
        self.app.redbeat_redis.close()
        self.app.close()


@pytest.fixture
def beat(redis_url: str) -> Iterator[Beat]:
    made = Beat(redis_url)
    yield made
    made.close()


async def found(redis: Redis, prefix: str = "redbeat:", zone: str = "UTC") -> dict[str, Found]:
    return {one.name: one for one in await read(redis, prefix, zone, NAMES)}


def made(one: Found) -> Schedule:
    assert one.schedule, one.why
    return one.schedule


async def test_a_crontab_with_its_arguments_under_its_old_name(beat: Beat, redis: Redis) -> None:
    beat.save("train-model-daily", crontab(hour=3, minute=0), args=[7])
    beat.save("by-name", crontab(minute="*/5", day_of_week="mon-fri"), task="old.more.thing", kwargs={"n": 8})
    all_of_them = await found(redis)
    one, two = made(all_of_them["train-model-daily"]), made(all_of_them["by-name"])
    assert (one.id, one.cron, one.zone, one.handler) == ("train-model-daily", "0 3 * * *", "UTC", "old.tasks.works")
    assert (one.argument, two.argument, two.handler) == ({"n": 7}, {"n": 8}, "old.more.thing")
    assert two.cron == "*/5 * * * mon-fri"
    assert one.note == "from RedBeat entry train-model-daily"


@pytest.mark.parametrize(
    ("when", "cron"),
    [
        (crontab(minute=0, hour="22-2"), "0 22-23,0-2 * * *"),
        (crontab(minute="1,31", hour="*/2"), "1,31 */2 * * *"),
        (crontab(minute=0, hour=[1, 3]), "0 1,3 * * *"),
        (crontab(minute=0, hour=6, day_of_week="Monday,thursday"), "0 6 * * Mon,thu"),
        (crontab(minute=0, hour=0, day_of_month=1, month_of_year="*/3"), "0 0 1 */3 *"),
    ],
)
async def test_a_crontab_is_due_when_celery_says(beat: Beat, redis: Redis, when: crontab, cron: str) -> None:
    beat.save("one", when)
    ours = made((await found(redis))["one"])
    assert ours.cron == cron
    last = datetime(2026, 11, 28, 0, 0, 30, tzinfo=UTC)
    for due in preview(ours, int(last.timestamp() * 1000), 5):
        when.nowfun = lambda last=last: last  # Celery counts from now
        last += when.remaining_estimate(last)
        assert written(due.at) == written(int(last.timestamp()) * 1000)


async def test_an_interval_keeps_its_beat(beat: Beat, redis: Redis) -> None:
    entry = beat.save("every", schedule(90))
    entry._next_instance(last_run_at=datetime(2026, 11, 28, 0, 0, 7, tzinfo=UTC))
    beat.save("never-ran", schedule(60))
    all_of_them = await found(redis)
    one = made(all_of_them["every"])
    assert (one.every_s, one.anchor) == (90, at("2026-11-28T00:00:07Z"))
    assert made(all_of_them["never-ran"]).every_s == 60


async def test_a_disabled_entry_is_paused_and_a_name_is_made_one_of_ours(beat: Beat, redis: Redis) -> None:
    beat.save("off: by night", crontab(), enabled=False)
    one = made((await found(redis))["off: by night"])
    assert (one.id, one.paused) == ("off:-by-night", True)


async def test_a_static_entry_and_the_lock_beside_the_entries(redis_url: str, redis: Redis) -> None:
    """As a beat that has run leaves them."""
    from redbeat import RedBeatScheduler

    beat = Beat(redis_url)
    beat.app.conf.beat_schedule = {"static": {"task": "old.tasks.works", "schedule": crontab(minute=5)}}
    scheduler = RedBeatScheduler(app=beat.app)
    scheduler.setup_schedule()
    await redis.set("redbeat::lock", "somebody")
    assert await redis.exists("redbeat::schedule", "redbeat::statics") == 2
    entries = {name: one for name, one in (await found(redis)).items() if name != "celery.backend_cleanup"}
    assert {name: made(one).cron for name, one in entries.items()} == {"static": "5 * * * *"}
    beat.close()


@pytest.mark.parametrize(
    ("when", "more", "why"),
    [
        (crontab(), {"task": "gone.tasks.thing"}, "'gone.tasks.thing' is unknown. Known: fails, works"),
        (crontab(day_of_month=1, day_of_week=1), {}, "Celery wants both, cron one of them"),
        (crontab(), {"args": [1, 2]}, "works takes by position: n"),
        (crontab(), {"kwargs": {"n": "many"}}, "n is 'many'"),
        (schedule(0.5), {}, "whole seconds"),
        (
            rrule("DAILY", dtstart=datetime(2026, 1, 1, tzinfo=UTC)),
            {},
            "schedule is 'rrule'; allowed: crontab, interval",
        ),
    ],
    ids=["task", "both days", "positions", "argument", "half a second", "rrule"],
)
async def test_what_cannot_be_taken_over_is_named_with_the_reason(
    beat: Beat, redis: Redis, when: Any, more: dict[str, Any], why: str
) -> None:
    beat.save("one", when, **more)
    beat.save("two", crontab())
    all_of_them = await found(redis)
    assert all_of_them["one"].schedule is None
    assert why in all_of_them["one"].why
    assert all_of_them["two"].schedule


async def test_what_is_no_entry_is_named_too(redis: Redis) -> None:
    await redis.hset("redbeat:broken", "definition", "{no json")
    await redis.hset("redbeat:list", "definition", "[]")
    assert ["it is no entry" in one.why for one in (await found(redis)).values()] == [True, True]


async def test_another_prefix_and_the_zone_of_the_app(redis_url: str, redis: Redis) -> None:
    beat, other = Beat(redis_url, "shop:"), Beat(redis_url)
    beat.save("one", crontab(hour=3, minute=0))
    other.save("two", crontab())
    assert {n: made(f).zone for n, f in (await found(redis, "shop:", "Europe/London")).items()} == {
        "one": "Europe/London"
    }
    beat.close()
    other.close()
