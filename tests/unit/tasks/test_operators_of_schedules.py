"""What operators do with schedules while a scheduler decides: write, pause, trigger, backfill, delete."""

from __future__ import annotations

import asyncio

import pytest

from ray_app.errors import InvalidField, NotFound
from ray_app.operations.schedules import trouble
from ray_app.tasks import operate
from ray_app.tasks.schedule import occurrence_id
from ray_app.tasks.schedules import Schedules
from ray_app.tasks.task import State
from ray_app.wiring.schedules import DEFAULTS, put_defaults
from tests.schedules_world import START, World, at, settled

MINUTE = 60_000


async def test_a_change_of_zone_or_times_keeps_history_and_counts(world: World) -> None:
    """Celery beat: a change of timezone clears the file that holds them."""
    await world.put(overlap="allow")
    await world.pass_to(world.scheduler(), "2026-11-28T00:02:00Z")
    await world.put(cron="30 * * * *", zone="Asia/Kathmandu", overlap="allow")
    await world.pass_to(world.scheduler(), "2026-11-28T00:50:00Z")
    times = ["00:01", "00:02", "00:45"]  # 30 minutes past the hour there
    assert await world.told() == {f"2026-11-28T{t}:00Z": "fired" for t in times}


async def test_another_note_moves_no_due_time(world: World) -> None:
    await world.put(overlap="allow")
    world.fixed.pass_s(90)
    await world.put(overlap="allow", note="looked at")
    await settled(world.scheduler())
    assert await world.told() == {"2026-11-28T00:01:00Z": "caught_up"}


async def test_other_times_lose_nothing_that_is_due_and_not_decided(world: World) -> None:
    """A jitter or a scheduler that is away leaves due times open; a change of the rule meanwhile is no reason to forget
    those that the new rule has as well."""
    await world.put(cron="0 * * * *", jitter_s=3600)
    world.fixed.at = at("2026-11-28T01:00:00Z")
    assert world.fixed.at < (await world.schedules.get("a")).wake
    await world.put(cron="0 * * * *", jitter_s=3600, exclude=["2026-12-25"])
    await world.pass_to(world.scheduler(), "2026-11-28T02:00:00Z")
    assert next(iter(await world.told())) == "2026-11-28T01:00:00Z"


async def test_one_that_is_put_as_not_paused_begins_to_count_anew(world: World) -> None:
    await world.put(handler="fails", pause_after=1)
    scheduler = world.scheduler()
    for minute in (1, 2):
        await world.pass_to(scheduler, f"2026-11-28T00:0{minute}:00Z")
        await world.tasks.work_off()
    assert (await world.schedules.get("a")).paused
    await world.put(handler="works", pause_after=1, paused=False)
    await world.pass_to(scheduler, "2026-11-28T00:03:00Z")
    assert (await world.told())["2026-11-28T00:03:00Z"] == "fired"


async def test_a_page_is_whole_where_one_cannot_be_read(world: World) -> None:
    for id in ("a", "b", "c", "d"):
        await world.put(id)
    await world.redis.hset(world.schedules._state("b"), "schedule", "another version's")
    await world.redis.delete(world.schedules._state("c"))
    assert [s.schedule.id for s in await world.schedules.page(2)] == ["a", "d"]
    assert [s.schedule.id for s in await world.schedules.page(1, "a")] == ["d"]
    assert "b, c cannot be read" in await trouble(world.schedules)


async def test_a_backfill_runs_nothing_again_that_the_ledger_has_forgotten(world: World) -> None:
    few = Schedules(world.redis, world.tasks.settings.stores.redis_prefix, world.clock, keep=3)
    world.schedules = few
    await world.put(overlap="allow")
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:05:00Z")
    since, oldest = at("2026-11-28T00:01:00Z"), at("2026-11-28T00:03:00Z")
    with pytest.raises(InvalidField, match=r"from.*2026-11-28T00:03:00Z.*scheduler\.ledger_keep"):
        await operate.backfill(few, "a", since, world.fixed.at)
    assert (await operate.backfill(few, "a", oldest, world.fixed.at)).ran == 3


async def test_a_paused_one_writes_down_what_does_not_run(world: World) -> None:
    await world.put(paused=True)
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:02:00Z")
    await world.put(note="still")
    assert (await world.schedules.get("a")).paused == "by an operator"
    assert list((await world.told()).values()) == ["paused", "paused"]
    filled = await operate.backfill(world.schedules, "a", at("2026-11-28T00:02:00Z"), world.clock.now())
    await settled(scheduler)
    assert filled.ids == ("a@2026-11-28T00:02:00Z",)
    assert list((await world.told()).values()) == ["paused", "backfill"]


async def test_a_trigger_runs_at_once_and_is_no_due_time(world: World) -> None:
    await world.put(paused=True)
    ids = [await operate.trigger(world.schedules, "a") for _ in range(3)]
    await settled(world.scheduler())
    assert ids == [occurrence_id("a", START + k) for k in (1, 2, 3)]
    assert list((await world.told()).values()) == ["triggered"] * 3
    await world.tasks.work_off()
    assert [(await world.queue.get(i)).state for i in ids] == [State.SUCCESS] * 3


async def test_a_backfill_runs_what_did_not_run_and_nothing_twice(world: World) -> None:
    await world.put(exclude=["2026-11-27"], cron="0 */6 * * *")
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T13:00:00Z", 3600)
    await world.tasks.work_off()
    span = (at("2026-11-26T12:00:00Z"), at("2026-11-28T13:00:00Z"))
    filled = await operate.backfill(world.schedules, "a", *span)
    assert filled.ran == 1  # 06:00; 12:00 was skipped while it went on
    wanted = ["2026-11-26T12:00:00Z", "2026-11-26T18:00:00Z", "2026-11-28T00:00:00Z", "2026-11-28T12:00:00Z"]
    assert [i.partition("@")[2] for i in filled.ids] == wanted
    await settled(scheduler)
    again = await operate.backfill(world.schedules, "a", *span, order="at_once")
    assert (again.ids, again.ran) == ((), 5)
    await world.tasks.work_off()
    ended = [await world.queue.get(i) for i in filled.ids]
    assert [t.started_at for t in ended] == sorted(t.started_at for t in ended)


@pytest.mark.parametrize(
    ("since", "until", "order", "says"),
    [
        ("2026-11-28T00:00:00Z", "2026-11-27T00:00:00Z", "one_by_one", "to is"),
        ("2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z", "one_by_one", "now"),
        ("2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z", "one_by_one", "at most 1000"),
        ("2026-11-27T23:00:00Z", "2026-11-28T00:00:00Z", "backwards", "at_once"),
    ],
)
async def test_a_span_that_cannot_be_filled(world: World, since: str, until: str, order: str, says: str) -> None:
    await world.put()
    with pytest.raises(InvalidField, match=says):
        await operate.backfill(world.schedules, "a", at(since), at(until), order)


async def test_what_is_not_there(world: World) -> None:
    await world.put("b")
    for call in (world.schedules.get("a"), world.schedules.delete("a"), operate.trigger(world.schedules, "a")):
        with pytest.raises(NotFound, match="Known: b"):
            await call


async def test_a_deleted_one_is_gone(world: World) -> None:
    await world.put()
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:01:00Z")
    await world.schedules.delete("a")
    await world.pass_to(scheduler, "2026-11-28T00:03:00Z")
    assert await world.started() == ["2026-11-28T00:01:00Z"]
    assert await world.schedules.page() == []
    left = [k async for k in world.redis.scan_iter("*schedules:*a") if k.endswith(b":a")]
    assert left == []


async def test_pages_are_in_the_order_of_ids(world: World) -> None:
    for id in ("b", "d", "a", "c"):
        await world.put(id)
    assert [s.schedule.id for s in await world.schedules.page(2)] == ["a", "b"]
    assert [s.schedule.id for s in await world.schedules.page(9, "b")] == ["c", "d"]


async def test_the_ledger_is_bounded(world: World) -> None:
    world.schedules._keep = 10
    await world.put(every_s=1, cron=None, coalesce="all", overlap="allow", most=1000)
    world.fixed.pass_s(100)
    await settled(world.scheduler())
    assert [e.at for e in await world.ledger()] == [START + k * 1000 for k in range(91, 101)]
    assert (await world.schedules.get("a")).counts["caught_up"] + (await world.schedules.get("a")).counts[
        "fired"
    ] == 100


async def test_the_default_schedules_are_put_once(world: World) -> None:
    assert await put_defaults(world.schedules) == [d.id for d in DEFAULTS]
    assert len(DEFAULTS) == 10
    await world.schedules.delete("weekly_report")
    await world.schedules.put(DEFAULTS[2].model_copy(update={"cron": "0 5 * * *"}))
    assert await put_defaults(world.schedules) == []
    found = {s.schedule.id: s.schedule for s in await world.schedules.page()}
    assert found.keys() == {d.id for d in DEFAULTS} - {"weekly_report"}
    assert found["train-model-daily"].cron == "0 5 * * *"


async def test_one_that_an_operator_put_before_the_first_start_stays(world: World) -> None:
    await world.put("daily_cleanup", cron="0 1 * * *")
    assert "daily_cleanup" not in await put_defaults(world.schedules)
    assert (await world.schedules.get("daily_cleanup")).schedule.cron == "0 1 * * *"


async def test_an_operator_who_comes_between_is_heard(world: World) -> None:
    """What was read before the pause is not written over it."""
    await world.put(overlap="allow")

    async def pauses(step: str) -> None:
        if step == "read" and not (await world.schedules.get("a")).paused:
            await operate.pause(world.schedules, "a")

    await world.pass_to(world.scheduler(hook=pauses), "2026-11-28T00:02:00Z")
    assert list((await world.told()).values()) == ["paused", "paused"]


async def test_many_operators_at_once(world: World) -> None:
    await world.put(overlap="allow")
    ids = await asyncio.gather(*(operate.trigger(world.schedules, "a") for _ in range(8)))
    await settled(world.scheduler())
    assert len(set(ids)) == 8
    assert [i.partition("@")[2] for i in sorted(ids)] == list(await world.told()) == await world.started()
