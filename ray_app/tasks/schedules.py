"""Schedules in Redis: what each says, where it stands, its ledger, and the outbox of what is to run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ray_app.clock import Clock
from ray_app.errors import LemoError, NotFound, Unavailable
from ray_app.tasks.due import after
from ray_app.tasks.policy import Entry, Standing, Start, Why
from ray_app.tasks.schedule import Schedule
from ray_app.tasks.script import workers_key
from ray_app.tasks.task import Submission

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)
HERE = Path(__file__).parent
AGAIN_MS = 10_000  # what could not be read, handed over or decided is tried again after so long
TRIES = 20  # of a change that another one comes before


class Fenced(LemoError):
    """Another scheduler has the lease: this one may write nothing more."""


@dataclass(frozen=True, slots=True)
class Lease:
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one call writes: the standing (of the version that was read), lines of its ledger, and what is to run."""

    standing: Standing
    entries: Sequence[Entry] = ()
    starts: Sequence[Start] = ()
    count: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An outbox entry: what goes to the queue, after these tasks were cancelled."""

    schedule: str
    at: int
    submission: Submission
    cancel: tuple[str, ...]


class Schedules:
    """`keep`: lines of a ledger. Operators and the scheduler write by the same call, the scheduler under its lease."""

    def __init__(self, redis: Redis, prefix: str, clock: Clock, keep: int = 500) -> None:
        self.redis, self.clock, self._keep, self._root = redis, clock, keep, f"{prefix}:schedules"
        self.given = f"{self._root}:given"  # ids of the default schedules that were put once
        self.workers = workers_key(prefix)
        self.due, self.names, self.outbox = f"{self._root}:due", f"{self._root}:names", f"{self._root}:outbox"
        self.leader, self.lease, self.bodies = (f"{self._root}:{k}" for k in ("leader", "lease", "bodies"))
        self._write = redis.register_script((HERE / "schedule.lua").read_text())

    def _state(self, id: str) -> str:
        return f"{self._root}:of:{id}"

    def _ledger(self, id: str) -> str:
        return f"{self._root}:ledger:{id}"

    async def find(self, ids: Sequence[str]) -> dict[str, Standing]:
        """Those that exist and can be read, by id; one round trip."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hgetall(self._state(id))
            found: list[dict[bytes, bytes]] = await pipe.execute()
        read = ((id, _read(id, stored)) for id, stored in zip(ids, found, strict=True) if stored)
        return {id: s for id, s in read if s}

    async def get(self, id: str) -> Standing:
        """Raises NotFound, naming some of those that exist."""
        found = await self.find([id])
        if id not in found:
            names: Any = await self.redis.zrange(self.names, 0, 19)
            known = ", ".join(k.decode() for k in names) or "none"
            raise NotFound(f"schedule {id[:80]!r} is not there. Known: {known}", field="schedule", value=id[:80])
        return found[id]

    async def page(self, most: int = 100, beyond: str = "") -> list[Standing]:
        """By id, those greater than `beyond`."""
        found: list[Standing] = []
        while len(found) < most:  # again where some could not be read
            low = f"({beyond}" if beyond else "-"
            names: Any = await self.redis.zrange(self.names, low, "+", bylex=True, offset=0, num=most - len(found))
            if not names:
                break
            found += (await self.find([n.decode() for n in names])).values()
            beyond = names[-1].decode()
        return found

    async def put(self, schedule: Schedule) -> Standing:
        """In the place of one with the same id. Where the times stay, so does the next one; else it is the first of the
        new rule that is not past, or not decided. History and counts stay."""
        for _ in range(TRIES):
            s = (await self.find([schedule.id])).get(schedule.id)
            kept = s is not None and s.schedule.same_times(schedule)
            open_ = min(self.clock.now(), s.next - 1) if s and s.next else self.clock.now()
            first = s.next if s and kept else next((d.at for d in after(schedule, open_)), 0)
            paused = (s.paused if s else "") if schedule.paused is None else _paused(schedule, s)
            stays = schedule.model_copy(update={"paused": None})
            version: Any = await self.redis.hget(self._state(schedule.id), "version") or 0  # of one that is unreadable
            made = replace(s, schedule=stays, next=first) if s else Standing(stays, int(version), first)
            failures = 0 if made.paused and not paused else made.failures  # as by resume
            if await self.apply([Change(replace(made, paused=paused, failures=failures))]) == ["done"]:
                return await self.get(schedule.id)
        raise Unavailable(f"schedule {schedule.id!r} changes again and again; it was not written. Try again")

    async def delete(self, id: str) -> None:
        """With its history; what was already decided still runs. Raises NotFound."""
        if not await self.redis.exists(self._state(id)):
            await self.get(id)  # which says what is there
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._state(id), self._ledger(id))
            pipe.zrem(self.due, id)
            pipe.zrem(self.names, id)
            await pipe.execute()

    async def repair(self) -> list[str]:
        """Each schedule stands in two lists, by due time and by id; one that is lost is made again of the other one.
        Returns the ids that were missing."""
        async with self.redis.pipeline(transaction=True) as pipe:
            for key in (self.due, self.names):
                pipe.zrange(key, 0, -1)
            due, names = ({id.decode() for id in found} for found in await pipe.execute())
        missing = await self.find(sorted(due ^ names))
        for id, s in missing.items():
            await self.redis.zadd(self.due, {id: s.wake if s.next else "+inf"}, nx=True)
            await self.redis.zadd(self.names, {id: 0})
        return list(missing)

    async def ledger(self, id: str, most: int = 50, since: int = 0, until: int | None = None) -> list[Entry]:
        """Lines of due instants from `since` to `until` (ms), the newest first."""
        high = "+inf" if until is None else until
        found: Any = await self.redis.zrevrangebyscore(self._ledger(id), high, since, start=0, num=most)
        return [_entry(line) for line in found]

    async def forgotten(self, id: str) -> int:
        """Lines of earlier instants (ms) than this may be gone; 0: none is."""
        if await self.redis.zcard(self._ledger(id)) < self._keep:
            return 0
        return (await self.ledger(id, self._keep))[-1].at

    async def apply(self, changes: Iterable[Change], lease: Lease | None = None) -> list[str]:
        """For each "done", "fenced" or "changed"; each is one Lua call, and all are one round trip."""
        asked = list(changes)
        async with self.redis.pipeline(transaction=False) as pipe:
            for one in asked:
                id = one.standing.schedule.id
                keys = (self.leader, self._state(id), self.due, self.names, self._ledger(id), self.outbox, self.bodies)
                await self._write(keys=keys, args=[self._body(one, lease)], client=pipe)
            return [r.decode() for r in await pipe.execute()]

    def _body(self, one: Change, lease: Lease | None) -> bytes:
        s = one.standing
        asked: dict[str, Any] = {
            "id": s.schedule.id, "version": s.version, "set": _fields(s), "count": one.count or {}, "keep": self._keep,
            "entries": [[e.at, _line(e)] for e in one.entries], "now": self.clock.now(),
            "out": [[start.id, _out(s.schedule, start)] for start in one.starts],
        }  # fmt: skip
        if s.next:
            asked["wake"] = s.wake
        if lease:
            asked |= {"owner": lease.owner, "epoch": lease.epoch}
        return orjson.dumps(asked)

    async def outgoing(self, now: int, most: int = 200) -> dict[str, Outgoing]:
        """What the queue has not taken, the oldest first, by the id of the occurrence. What cannot be read is looked at
        again later, and holds no other up."""
        ids: Any = await self.redis.zrangebyscore(self.outbox, "-inf", now, start=0, num=most)
        bodies: Any = await self.redis.hmget(self.bodies, ids) if ids else []
        read = {id.decode(): _outgoing(id.decode(), raw) for id, raw in zip(ids, bodies, strict=True)}
        if unread := [id for id, one in read.items() if one is None]:
            logger.error("occurrences of the outbox are gone or cannot be read", extra={"tasks": unread[:20]})
            await self.redis.zadd(self.outbox, dict.fromkeys(unread, now + AGAIN_MS), xx=True)
        return {id: one for id, one in read.items() if one}

    async def waiting(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that are in the outbox."""
        found: Any = await self.redis.hmget(self.bodies, list(ids)) if ids else []
        return {id for id, raw in zip(ids, found, strict=True) if raw}


@lru_cache(20_000)
def _parsed(raw: bytes) -> Schedule:
    return Schedule.model_validate_json(raw)


def _read(id: str, stored: Mapping[bytes, bytes]) -> Standing | None:
    """None for one that another version has written: it holds no other up."""
    try:
        return _standing(stored)
    except (KeyError, ValueError):
        logger.exception("a schedule cannot be read", extra={"schedule": id})
        return None


def _standing(stored: Mapping[bytes, bytes]) -> Standing:
    counts = {k[2:].decode(): int(v) for k, v in stored.items() if k.startswith(b"n:")}
    return Standing(
        _parsed(stored[b"schedule"]), int(stored[b"version"]), int(stored[b"next"]),
        tuple(orjson.loads(stored[b"active"])), int(stored[b"failures"]), stored[b"paused"].decode(),
        stored[b"caught"] == b"1", counts,
    )  # fmt: skip


def _paused(schedule: Schedule, s: Standing | None) -> str:
    return ((s.paused if s else "") or "by an operator") if schedule.paused else ""


def _fields(s: Standing) -> dict[str, Any]:
    return {
        "schedule": s.schedule.model_dump_json(exclude_none=True), "next": s.next, "caught": int(s.caught),
        "active": orjson.dumps(s.active).decode(), "failures": s.failures, "paused": s.paused,
    }  # fmt: skip


def _line(e: Entry) -> str:
    return f"{e.at}|{e.why}|{e.decided_at}|{e.late_ms}|{e.note}"


def _entry(line: bytes) -> Entry:
    at, why, decided_at, late_ms, note = line.decode().split("|", 4)
    return Entry(int(at), Why(why), int(decided_at), int(late_ms), note)


def _out(schedule: Schedule, start: Start) -> str:
    body = {
        "schedule": schedule.id, "name": schedule.handler, "argument": schedule.argument, "tenant": schedule.tenant,
        "after": start.after, "cancel": start.cancel, "at": start.at,
    }  # fmt: skip
    return orjson.dumps(body).decode()


def _outgoing(id: str, raw: bytes | None) -> Outgoing | None:
    """None for one that another version has written, or that is gone."""
    try:
        body = orjson.loads(raw or b"")
        schedule, at = body.pop("schedule"), body.pop("at")
        cancel, behind = tuple(body.pop("cancel")), tuple(body.pop("after"))
        asked = Submission(**body, id=id, after=behind, whatever=bool(behind), group=schedule)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Outgoing(schedule, at, asked, cancel)
