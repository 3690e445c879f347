"""The scheduler's loop: hold the lease, decide what is due, hand it to the queue.

The order of one turn; a crash between any two loses nothing and starts nothing twice:

1. hold the lease, whose epoch every write carries;
2. read what is due, and the states of its earlier tasks;
3. one Lua call a schedule: next due time, lines of the ledger, outbox;
4. hand the outbox to the queue, whose tasks have the occurrence's id: a second submission is the same task; then
   cancel those that an occurrence takes the place of, for whose end it waits;
5. let the outbox go.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from ray_app.clock import Clock
from ray_app.config import Scheduler as Settings
from ray_app.errors import InvalidField, LemoError, NotFound, Unavailable
from ray_app.tasks.policy import ON_TIME_MS, Entry, Standing, Why, decide
from ray_app.tasks.queue import Queue
from ray_app.tasks.schedules import AGAIN_MS, HERE, Change, Fenced, Lease, Outgoing, Schedules
from ray_app.tasks.task import State, Submission

logger = logging.getLogger(__name__)
IDLE_S = 0.2  # how often it looks for changes and for work
MOST = 100  # schedules of one turn: the first of many starts before the last is decided
REPAIR_S = 60.0  # how often it looks for schedules that nothing would ever wake
SENT = 200  # occurrences of one call to the queue
MOST_WAIT_S = 5.0
AWAY = (Unavailable, RedisError, OSError)
Hook = Callable[[str], Awaitable[None]]


async def _goes_on(step: str) -> None:
    """No abort."""


class Scheduler:
    """One member: it decides while it holds the lease, and stands by otherwise. `owner`: a name that no other has.
    `hook` is called between the steps, for tests that end it there."""

    def __init__(
        self, schedules: Schedules, queue: Queue, settings: Settings, clock: Clock, owner: str, hook: Hook = _goes_on
    ) -> None:
        self._schedules, self._queue, self._settings, self._clock = schedules, queue, settings, clock
        self._owner, self._hook = owner, hook
        self._lease: Lease | None = None
        self._sure_until = self._renew_at = self._repair_at = 0.0
        self._kept: dict[str, int] = {}  # what kept us, and until when
        self._away = False
        self._offset: int | None = None
        self._lead = schedules.redis.register_script((HERE / "lead.lua").read_text())
        self._delivered = schedules.redis.register_script((HERE / "delivered.lua").read_text())

    @property
    def leads(self) -> bool:
        return self._lease is not None and self._clock.monotonic() < self._sure_until

    async def run(self, ending: threading.Event) -> None:
        """Until `ending`; a store that is away is waited for. The lease is handed over at the end."""
        wait_s = IDLE_S
        while not ending.is_set():
            try:
                rest, wait_s = await self.turn(), IDLE_S
            except AWAY as e:
                logger.warning("the scheduler waits for its store", extra={"why": str(e)[:300]})
                rest, wait_s = wait_s, min(MOST_WAIT_S, wait_s * 2)
            except Fenced as e:
                logger.warning(e.message)
                rest = IDLE_S
            except Exception:
                logger.exception("the scheduler failed and tries again")
                rest, wait_s = wait_s, min(MOST_WAIT_S, wait_s * 2)
            if rest > 0:
                await asyncio.sleep(rest)
        await self.leave()

    async def turn(self) -> float:
        """One pass; returns for how many seconds there is nothing to do. Raises Fenced when the lease was lost, and one
        of AWAY while Redis is."""
        try:
            return await self._pass()
        except AWAY:
            self._away = True
            raise

    async def _pass(self) -> float:
        if not await self._hold():
            return IDLE_S
        self._notice_jump()
        await self._repair()
        await self._deliver()
        if self._away:  # it answers again
            self._keep("the state store was away")
            self._away = False
        if not await self._someone_works():
            self._keep("no worker was there")
            return IDLE_S
        now, schedules = self._clock.now(), self._schedules
        found: Any = await schedules.redis.zrange(schedules.due, 0, MOST - 1, withscores=True)
        ready = [id.decode() for id, at in found if at <= now]
        if not ready:
            return max(0.0, min(IDLE_S, (found[0][1] - now) / 1000)) if found else IDLE_S
        await self._decide(ready)
        await self._deliver()
        return 0.0

    async def leave(self) -> None:
        """Hand the lease over."""
        if self.leads:
            try:
                await self._schedules.redis.delete(self._schedules.lease)
            except AWAY:
                logger.info("the scheduler's lease is left to expire")
        self._lease = None

    async def _hold(self) -> bool:
        """Take or renew the lease where that is due. It counts from before the call, by a clock that never jumps."""
        begun = self._clock.monotonic()
        if self.leads and begun < self._renew_at:
            return True
        held = self._lease if self.leads else None
        self._lease = None
        keys = (self._schedules.leader, self._schedules.lease)
        lease_s = self._settings.lease_s
        epoch = int(await self._lead(keys=keys, args=[self._owner, held.epoch if held else 0, int(lease_s * 1000)]))
        if not epoch:
            return False
        if held is None or epoch != held.epoch:
            self._keep("the state store was away" if self._away else "no scheduler held the lease")
            logger.info("this scheduler leads", extra={"epoch": epoch})
        self._lease, self._sure_until, self._renew_at = Lease(self._owner, epoch), begun + lease_s, begun + lease_s / 3
        return True

    def _ours(self) -> Lease:
        """Raises Fenced where the lease may be another's by now: it was stopped, or slow, for longer than it holds."""
        if self._lease is None or not self.leads:
            self._lease = None
            raise Fenced("the scheduler's lease ran out before it was renewed; it is taken anew")
        return self._lease

    def _refused(self) -> Fenced:
        self._lease = None
        return Fenced("another scheduler leads by now; this one wrote nothing and stands by")

    async def _someone_works(self) -> bool:
        """By Redis' clock, which the workers use: ours may be wrong."""
        if not self._settings.workers_s:
            return True
        async with self._schedules.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(self._schedules.workers, -1, -1, withscores=True)
            (seconds, _), newest = await pipe.execute()
        return bool(newest) and newest[0][1] > (seconds - self._settings.workers_s) * 1000

    async def _repair(self) -> None:
        """A Redis that evicts keys may take the list of due ones, and keep the schedules."""
        if self._clock.monotonic() >= self._repair_at:
            if put := await self._schedules.repair():
                logger.error("schedules were not listed as due; they are again", extra={"schedules": put[:20]})
            self._repair_at = self._clock.monotonic() + REPAIR_S

    async def _decide(self, ids: Sequence[str]) -> None:
        found = await self._schedules.find(ids)
        states = await self._states([id for s in found.values() for id in s.active])
        await self._hook("read")
        now = self._clock.now()
        for id in ids:
            if id not in found:
                logger.error("a schedule is gone or cannot be read. Put it again", extra={"schedule": id})
                await self._postpone(self._schedules.due, id)
        changes = [change for s in found.values() if (change := await self._decided(s, now, states))]
        answers = await self._schedules.apply(changes, self._ours())
        await self._hook("decided")
        if "fenced" in answers:
            raise self._refused()

    async def _decided(self, s: Standing, now: int, states: Mapping[str, State | None]) -> Change | None:
        """None for one that cannot be decided: it is tried again later, and holds no other up."""
        try:
            made = decide(s, now, states, self._why_late)
            return Change(made.standing, made.entries, made.starts, made.counts())
        except Exception:
            logger.exception("a schedule could not be decided; it is tried again", extra={"schedule": s.schedule.id})
            await self._postpone(self._schedules.due, s.schedule.id)
            return None

    async def _postpone(self, key: str, id: str) -> None:
        """What is in the list at all; one that was deleted meanwhile stays so."""
        self._ours()
        await self._schedules.redis.zadd(key, {id: self._clock.now() + AGAIN_MS}, xx=True)

    async def _states(self, ids: Sequence[str]) -> dict[str, State | None]:
        """None: the queue does not know it, and it does not wait in the outbox."""
        known = await self._queue.get_many(ids) if ids else {}
        found = {id: known[id].state if id in known else None for id in ids}
        unknown = [id for id, state in found.items() if state is None]
        return {**found, **dict.fromkeys(await self._schedules.waiting(unknown), State.PENDING)}

    async def _deliver(self) -> None:
        """Everything that waits. What the queue refuses is refused for good and written down; what fails otherwise is
        tried again later."""
        while out := await self._schedules.outgoing(self._clock.now(), SENT):
            await self._hook("outgoing")
            lease = self._ours()
            taken = await self._submit(out)
            await self._hook("submitted")
            for id in taken:
                await self._cancel(out[id])
            await self._hook("cancelled")
            keys = (self._schedules.leader, self._schedules.outbox, self._schedules.bodies)
            if await self._delivered(keys=keys, args=[lease.owner, lease.epoch, *taken]) == b"fenced":
                raise self._refused()
            await self._hook("delivered")
            if len(out) < SENT:
                break

    async def _cancel(self, one: Outgoing) -> None:
        for id in one.cancel:
            try:
                await self._queue.cancel(id)
            except NotFound:
                logger.info("a task that was to be cancelled is gone", extra={"task": id})

    async def _submit(self, out: Mapping[str, Outgoing]) -> list[str]:
        """The ids that need not be sent again. All in one call; where that fails, one by one."""
        gone = await self._gone(out)
        asked = [_without(one.submission, gone) for one in out.values()]
        try:
            return await self._queue.submit(*asked)
        except AWAY:
            raise
        except Exception as e:
            logger.warning("the queue refused an occurrence; they go one by one", extra={"why": str(e)[:300]})
        return [a.id or "" for a, one in zip(asked, out.values(), strict=True) if await self._submit_one(a, one)]

    async def _gone(self, out: Mapping[str, Outgoing]) -> set[str]:
        """Those that somebody waits for, and that ended so long ago that the queue has forgotten them."""
        behind = {id for one in out.values() for id in one.submission.after} - out.keys()
        if not behind:
            return set()
        known = await self._queue.get_many(behind)
        return behind - known.keys() - await self._schedules.waiting(sorted(behind))

    async def _submit_one(self, asked: Submission, one: Outgoing) -> bool:
        id = asked.id or ""
        try:
            await self._queue.submit(asked)
        except AWAY:
            raise
        except LemoError as e:
            waits = isinstance(e, InvalidField) and e.field == "after"  # for one that is in the outbox itself
            if e.status < 500 and not waits:
                return await self._write_refusal(id, one, e.message)
            return await self._later(id)
        except Exception:
            logger.exception("an occurrence could not be handed over; it is tried again", extra={"task": id})
            return await self._later(id)
        return True

    async def _later(self, id: str) -> bool:
        await self._postpone(self._schedules.outbox, id)
        return False

    async def _write_refusal(self, id: str, one: Outgoing, why: str) -> bool:
        """It counts as a failure, so that a schedule which can never run pauses by its own rule."""
        logger.error("an occurrence was refused", extra={"task": id, "why": why[:300]})
        s = (await self._schedules.find([one.schedule])).get(one.schedule)
        if s is None:
            return True
        entry = Entry(one.at, Why.REFUSED, self._clock.now(), note=why[:200])
        left = replace(s, active=tuple(a for a in s.active if a != id), failures=s.failures + 1)
        answer = await self._schedules.apply([Change(left, [entry], (), {str(Why.REFUSED): 1})], self._ours())
        return answer == ["done"]

    def _keep(self, why: str) -> None:
        self._kept[why] = self._clock.now()

    def _notice_jump(self) -> None:
        """The wall clock against the one that never jumps."""
        offset = self._clock.now() - int(self._clock.monotonic() * 1000)
        if self._offset is not None and abs(offset - self._offset) > ON_TIME_MS:
            logger.warning("the clock jumped", extra={"by_ms": offset - self._offset})
            self._keep("the clock jumped")
        self._offset = offset

    def _why_late(self, at: int) -> str:
        """What kept us at the instant `at` (ms)."""
        return next((why for why, until in self._kept.items() if at <= until), "the scheduler was busy")


def _without(asked: Submission, gone: set[str]) -> Submission:
    return replace(asked, after=tuple(id for id in asked.after if id not in gone)) if gone else asked
