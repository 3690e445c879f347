"""The scheduler on a real Redis and the real queue; its clock is moved by hand."""

from __future__ import annotations

import pytest

from ray_app.operations.schedules import trouble
from ray_app.tasks import operate
from ray_app.tasks.policy import Why
from ray_app.tasks.schedules import Fenced
from ray_app.tasks.task import State
from tests.schedules_world import START, World, settled

MINUTE = 60_000


async def test_a_due_time_becomes_a_task_whose_id_says_which(world: World) -> None:
    await world.put(argument={"n": 7}, tenant="shop")
    await world.pass_to(world.scheduler(), "2026-11-28T00:02:10Z")
    assert await world.told() == {"2026-11-28T00:01:00Z": "fired", "2026-11-28T00:02:00Z": "skipped_overlap"}
    task = await world.queue.get("a@2026-11-28T00:01:00Z")
    assert (task.name, task.tenant, task.argument, task.group) == ("works", "shop", {"n": 7}, "a")
    await world.tasks.work_off()
    assert (await world.queue.get(task.id)).result == {"n": 7}
    await world.pass_to(world.scheduler(), "2026-11-28T00:03:00Z")
    assert (await world.told())["2026-11-28T00:03:00Z"] == "fired"


async def test_an_old_name_of_a_handler_does(world: World) -> None:
    await world.put(handler="old.tasks.works")
    await world.pass_to(world.scheduler(), "2026-11-28T00:01:00Z")
    assert (await world.queue.get("a@2026-11-28T00:01:00Z")).name == "works"


async def test_buffered_ones_wait_in_the_queue_and_run_in_their_order(world: World) -> None:
    await world.put(overlap="buffer_all")
    await world.pass_to(world.scheduler(), "2026-11-28T00:03:00Z")
    assert list((await world.told()).values()) == ["fired", "buffered", "buffered"]
    assert (await world.queue.counts())["open"] == 3
    await world.tasks.work_off()
    ended = [await world.queue.get(f"a@2026-11-28T00:0{k}:00Z") for k in (1, 2, 3)]
    assert [t.state for t in ended] == [State.SUCCESS] * 3
    assert [t.started_at for t in ended] == sorted(t.started_at for t in ended)


async def test_the_newest_one_cancels_the_one_before(world: World) -> None:
    await world.put(overlap="cancel")
    await world.pass_to(world.scheduler(), "2026-11-28T00:02:00Z")
    await world.tasks.work_off()
    states = [(await world.queue.get(f"a@2026-11-28T00:0{k}:00Z")).state for k in (1, 2)]
    assert states == [State.REVOKED, State.SUCCESS]


async def test_a_buffered_one_does_not_wait_for_what_the_queue_has_forgotten(world: World) -> None:
    await world.put(overlap="buffer_all")
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:01:00Z")
    await operate.backfill(world.schedules, "a", START - 2 * MINUTE, START)
    await world.redis.delete(f"{world.queue.prefix}:task:a@2026-11-28T00:01:00Z")
    await settled(scheduler)
    assert await world.started() == ["2026-11-27T23:58:00Z", "2026-11-27T23:59:00Z", "2026-11-28T00:00:00Z"]


async def test_after_failures_in_a_row_it_pauses_until_it_is_resumed(world: World) -> None:
    await world.put(handler="fails", pause_after=2)
    scheduler = world.scheduler()
    for minute in (1, 2, 3, 4):
        await world.pass_to(scheduler, f"2026-11-28T00:0{minute}:00Z")
        await world.tasks.work_off()
    assert list((await world.told()).values()) == ["fired", "fired", "paused", "paused"]
    assert (await world.schedules.get("a")).paused == "2 failures in a row"
    await operate.resume(world.schedules, "a")
    await world.pass_to(scheduler, "2026-11-28T00:05:00Z")
    assert (await world.told())["2026-11-28T00:05:00Z"] == "fired"


async def test_what_is_wrong_with_schedules_is_told(world: World) -> None:
    await world.put(handler="fails", pause_after=1)
    await world.put("b", overlap="allow")
    assert await trouble(world.schedules) == ""
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:01:00Z")
    await world.tasks.work_off()
    await world.pass_to(scheduler, "2026-11-28T00:02:00Z")
    assert await trouble(world.schedules) == "a has paused itself: 1 failures in a row"
    world.fixed.pass_s(300)
    assert "2 schedules are due since more than 120 s: no scheduler decides" in await trouble(world.schedules)
    await settled(scheduler)
    assert await trouble(world.schedules) == "a has paused itself: 1 failures in a row"


async def test_what_the_queue_refuses_is_written_down_and_counts_as_a_failure(world: World) -> None:
    await world.put(handler="nobody", pause_after=2)
    await world.put("b")
    await world.pass_to(world.scheduler(), "2026-11-28T00:03:00Z")
    assert list((await world.told()).values()) == ["refused", "refused", "paused"]
    (first, *_) = await world.ledger()
    assert "'nobody' is unknown. Known: fails, works" in first.note
    assert await world.schedules.outgoing(world.clock.now()) == {}
    assert await world.started("b")  # nothing held it up


async def test_it_fires_only_while_a_worker_was_seen(world: World) -> None:
    await world.put(coalesce="all", overlap="allow")
    scheduler, key = world.scheduler(workers_s=30), world.schedules.workers
    await world.pass_to(scheduler, "2026-11-28T00:02:00Z")
    assert await world.told() == {}
    now = (await world.redis.time())[0] * 1000  # the clock of the workers
    await world.redis.zadd(key, {"w1": now - 40_000})
    await settled(scheduler)
    assert await world.told() == {}
    await world.redis.zadd(key, {"w1": now - 10_000})
    await settled(scheduler)
    assert await world.told() == {"2026-11-28T00:01:00Z": "caught_up", "2026-11-28T00:02:00Z": "fired"}
    assert (await world.ledger())[0].note == "no worker was there"


async def test_the_ledger_says_what_made_it_late(world: World) -> None:
    await world.put(coalesce="all", overlap="allow")
    world.fixed.pass_s(90)
    scheduler = world.scheduler()
    await settled(scheduler)
    (late,) = await world.ledger()
    assert (late.why, late.late_ms, late.note) == (Why.CAUGHT_UP, 30_000, "no scheduler held the lease")
    assert (await world.schedules.get("a")).counts == {"caught_up": 1, "late_ms": 30_000}
    world.fixed.pass_s(60)
    await settled(scheduler)
    assert (await world.ledger())[1].note == "the scheduler was busy"


async def test_a_second_scheduler_stands_by_and_a_fenced_one_writes_nothing(world: World) -> None:
    """RedBeat checks no fencing token when it sends; #127: two owners at a time."""
    await world.put(overlap="allow")
    first, second = world.scheduler("one"), world.scheduler("two")
    await settled(first)
    assert await second.turn() > 0
    assert (first.leads, second.leads) == (True, False)
    await world.redis.delete(world.schedules.lease)  # it ran out, as after a pause; the first does not know yet
    await settled(second)
    world.fixed.pass_s(60)
    with pytest.raises(Fenced, match="another scheduler leads"):
        await first.turn()
    assert await world.told() == {}
    await settled(second)
    assert await world.told() == {"2026-11-28T00:01:00Z": "fired"}
    assert await first.turn() > 0
    assert (first.leads, second.leads) == (False, True)


async def test_one_whose_lease_ran_out_stops_by_itself(world: World) -> None:
    """A tick of RedBeat that is longer than its lock sends all the same."""
    await world.put(overlap="allow")

    async def slow(step: str) -> None:
        if step == "read":
            world.fixed.pass_s(20)

    scheduler = world.scheduler(hook=slow, lease_s=10)
    await settled(scheduler)
    world.fixed.pass_s(60)
    with pytest.raises(Fenced, match="ran out"):
        await scheduler.turn()
    assert await world.told() == {}


async def test_a_lost_lease_ends_nothing(world: World) -> None:
    """RedBeat #230: LockNotOwnedError ends beat."""
    await world.put(overlap="allow")
    scheduler = world.scheduler()
    await world.pass_to(scheduler, "2026-11-28T00:01:00Z")
    await world.redis.delete(world.schedules.lease, world.schedules.leader)
    world.fixed.pass_s(60)
    with pytest.raises(Fenced):
        await scheduler.turn()
    await settled(scheduler)
    assert list((await world.told()).values()) == ["fired", "fired"]


@pytest.mark.parametrize("which", ["due", "names"])
async def test_an_evicted_list_is_made_again(world: World, which: str) -> None:
    """RedBeat #291: a Redis that evicts keys takes the list of due entries, and nothing fires any more."""
    await world.put(overlap="allow")
    await world.put("b", overlap="allow")
    scheduler = world.scheduler()
    await settled(scheduler)
    await world.redis.delete(getattr(world.schedules, which))
    await world.pass_to(scheduler, "2026-11-28T00:02:10Z")
    assert len(await world.told("a")) == len(await world.told("b")) == 2
    assert [s.schedule.id for s in await world.schedules.page()] == ["a", "b"]


async def test_an_evicted_schedule_holds_no_other_up(world: World) -> None:
    await world.put(overlap="allow")
    await world.put("b", overlap="allow")
    await world.redis.delete(world.schedules._state("a"))
    await world.pass_to(world.scheduler(), "2026-11-28T00:02:00Z")
    assert len(await world.told("b")) == 2


async def test_one_that_another_version_wrote_holds_no_other_up(world: World) -> None:
    await world.put(overlap="allow")
    await world.put("b", overlap="allow")
    await world.redis.hset(world.schedules._state("a"), "schedule", '{"id": "a", "solar": "dawn"}')
    await world.pass_to(world.scheduler(), "2026-11-28T00:02:00Z")
    assert len(await world.told("b")) == 2
    await world.put(overlap="allow")
    await world.pass_to(world.scheduler(), "2026-11-28T00:03:00Z")
    assert await world.told("a") == {"2026-11-28T00:03:00Z": "fired"}
    await world.redis.hset(world.schedules._state("a"), "schedule", "")
    await world.schedules.delete("a")
    assert [s.schedule.id for s in await world.schedules.page()] == ["b"]


async def test_one_that_cannot_be_decided_holds_no_other_up(world: World) -> None:
    await world.put(overlap="allow")
    await world.put("b", overlap="allow")
    await world.redis.hset(world.schedules._state("a"), "next", START * 1000)  # a year that Python has not
    await world.redis.zadd(world.schedules.due, {"a": START})
    await world.pass_to(world.scheduler(), "2026-11-28T00:02:00Z")
    assert len(await world.told("b")) == 2


async def test_an_occurrence_that_cannot_be_read_holds_no_other_up(world: World) -> None:
    """As a newer version writes it, which leads no more."""
    await world.put("a")
    await world.put("b")
    for id, body in (("a@x", '{"what": 1}'), ("a@y", "no json")):
        await world.redis.zadd(world.schedules.outbox, {id: 0})
        await world.redis.hset(world.schedules.bodies, id, body)
    await world.redis.zadd(world.schedules.outbox, {"a@gone": 0})
    await world.pass_to(world.scheduler(), "2026-11-28T00:01:00Z")
    assert [await world.started(id) for id in "ab"] == [["2026-11-28T00:01:00Z"]] * 2
    assert "3 occurrences wait" in await trouble(world.schedules)


async def test_what_is_tried_again_and_again_is_told_as_late(world: World) -> None:
    await world.put("a")
    await world.redis.hset(world.schedules._state("a"), "next", -START * 1000)  # a year that Python has not
    await world.pass_to(world.scheduler(), "2026-11-28T00:04:00Z")
    assert "1 schedules are due since more than 120 s" in await trouble(world.schedules)
