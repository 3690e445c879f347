"""What operators do with a schedule beside writing it: pause, resume, trigger now, backfill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import islice

from ray_app.errors import InvalidField, Unavailable
from ray_app.tasks.due import due
from ray_app.tasks.policy import FOLLOWED, RAN, Entry, Standing, Start, Why
from ray_app.tasks.schedule import occurrence_id, written
from ray_app.tasks.schedules import TRIES, Change, Schedules

MOST_FILLED = 1000  # occurrences of one backfill
ORDERS = ("one_by_one", "at_once")


@dataclass(frozen=True, slots=True)
class Filled:
    """`ids`: the occurrences that a backfill starts. `ran`: due instants of the span that had run already."""

    ids: tuple[str, ...]
    ran: int


async def pause(schedules: Schedules, id: str, why: str = "") -> Standing:
    """Due times go on being written down, as paused. Raises NotFound."""

    async def paused(s: Standing) -> Change:
        return Change(replace(s, paused=why or "by an operator"))

    return await _change(schedules, id, paused)


async def resume(schedules: Schedules, id: str) -> Standing:
    """From now on; its failures in a row are forgotten. What was due meanwhile can be backfilled. Raises NotFound."""

    async def resumed(s: Standing) -> Change:
        return Change(replace(s, paused="", failures=0))

    return await _change(schedules, id, resumed)


async def trigger(schedules: Schedules, id: str) -> str:
    """Runs once now, also while it is paused and whatever runs of it; returns the id of the task. Raises NotFound."""
    started = ""

    async def one(s: Standing) -> Change:
        nonlocal started
        at = schedules.clock.now()
        while at % 1000 == 0 or await schedules.ledger(id, 1, at, at):  # no due instant has milliseconds
            at += 1
        started = occurrence_id(id, at)
        entry = Entry(at, Why.TRIGGERED, schedules.clock.now())
        return Change(_follow(s, (started,)), [entry], [Start(started, at)], {str(Why.TRIGGERED): 1})

    await _change(schedules, id, one)
    return started


async def backfill(schedules: Schedules, id: str, since: int, until: int, order: str = ORDERS[0]) -> Filled:
    """Runs what was due from `since` to `until` (ms, in the past) and did not run; exclusion dates hold. Raises
    NotFound, and InvalidField for a span that is none, is not past, has more than MOST_FILLED due times, or begins
    before what the ledger knows."""
    if order not in ORDERS:
        raise InvalidField("order", order, ", ".join(ORDERS))
    if not since <= until <= schedules.clock.now():
        raise InvalidField("to", written(until), f"from {written(since)} to {written(schedules.clock.now())}, now")
    filled = Filled((), 0)

    async def some(s: Standing) -> Change:
        nonlocal filled
        if since < (oldest := await schedules.forgotten(id)):
            allowed = (
                f"{written(oldest)} or later: what ran before is not known, the ledger keeps the newest lines only "
            )
            raise InvalidField("from", written(since), allowed + "(scheduler.ledger_keep)")
        found = list(islice(due(s.schedule, since - 1, until), MOST_FILLED + 1))
        if len(found) > MOST_FILLED:
            raise InvalidField("to", written(until), f"a span with at most {MOST_FILLED} due times")
        # What is due and not decided yet is the scheduler's: it would be in the ledger twice.
        wanted = [d.at for d in found if not d.why and not 0 < s.next <= d.at]
        ran = {e.at for e in await schedules.ledger(id, 1_000_000, since, until) if e.why in RAN}
        starts = [Start(occurrence_id(id, at), at) for at in wanted if at not in ran]
        filled = Filled(tuple(x.id for x in starts), len(ran & set(wanted)))
        entries = [Entry(at, Why.BACKFILL, schedules.clock.now()) for at in wanted if at not in ran]
        if order == ORDERS[0]:
            behind = [s.active[-1:], *((x.id,) for x in starts)]
            starts = [replace(x, after=before) for x, before in zip(starts, behind, strict=False)]
        return Change(_follow(s, filled.ids), entries, starts, {str(Why.BACKFILL): len(starts)})

    await _change(schedules, id, some)
    return filled


def _follow(s: Standing, ids: tuple[str, ...]) -> Standing:
    if s.schedule.overlap == "allow" and not s.schedule.pause_after:
        return s
    return replace(s, active=(*s.active, *ids)[-FOLLOWED:])


async def _change(schedules: Schedules, id: str, make: Callable[[Standing], Awaitable[Change]]) -> Standing:
    """Made again where another change came between. Raises Unavailable after TRIES."""
    for _ in range(TRIES):
        if await schedules.apply([await make(await schedules.get(id))]) == ["done"]:
            return await schedules.get(id)
    raise Unavailable(f"schedule {id!r} changes again and again; it was not changed. Try again")
