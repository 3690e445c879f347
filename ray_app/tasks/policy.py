"""What becomes of the due times of one schedule: pure, from what is stored, the clock and the states of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice

from ray_app.tasks.due import Due, after
from ray_app.tasks.schedule import Schedule, occurrence_id
from ray_app.tasks.task import ENDED, State

ON_TIME_MS = 1000  # later than this it is caught up, and the ledger says why
AT_ONCE = 2000  # due times of one decision; after a long absence there are several
FOLLOWED = 100  # tasks of a schedule whose ends are looked for


class Why(StrEnum):
    """Why a due instant ran late or not at all. The ledger has one of these for each."""

    FIRED = "fired"
    CAUGHT_UP = "caught_up"
    BUFFERED = "buffered"
    TRIGGERED = "triggered"
    BACKFILL = "backfill"
    COALESCED = "coalesced"
    SKIPPED_OVERLAP = "skipped_overlap"
    SKIPPED_GAP = "skipped_gap"
    EXCLUDED = "excluded"
    MISSED_WINDOW = "missed_window"
    PAUSED = "paused"
    REFUSED = "refused"


RAN = frozenset({Why.FIRED, Why.CAUGHT_UP, Why.BUFFERED, Why.TRIGGERED, Why.BACKFILL})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: the due instant, what became of it, when that was decided, how much later than it should
    have been, and what made it late. Milliseconds."""

    at: int
    why: Why
    decided_at: int
    late_ms: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """An occurrence that is to run: its task's id, and the line of the ledger that it is; the tasks that must have
    ended; those that are cancelled first."""

    id: str
    at: int
    after: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is stored of a schedule. `next` is the first due instant (ms) that is not decided, 0: there is none.
    `active`: its tasks that were not seen to have ended. `paused`: why; "": it is not. `caught`: one of the due times
    that are being caught up has run."""

    schedule: Schedule
    version: int = 0
    next: int = 0
    active: tuple[str, ...] = ()
    failures: int = 0
    paused: str = ""
    caught: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def wake(self) -> int:
        """When the next one is decided (ms)."""
        return self.next + self.schedule.jitter(self.next)


@dataclass(frozen=True, slots=True)
class Decision:
    standing: Standing
    entries: tuple[Entry, ...]
    starts: tuple[Start, ...]

    def counts(self) -> dict[str, int]:
        found = Counter(str(e.why) for e in self.entries)
        ran = [e.late_ms for e in self.entries if e.why in RAN]
        return {**found, "late_ms": sum(ran)} if ran else dict(found)


Reason = Callable[[int], str]


def decide(s: Standing, now: int, states: Mapping[str, State | None], reason: Reason) -> Decision:
    """All that is due at `now` (ms). `states`: of the tasks in `active`; None: nobody knows it any more. `reason`: what
    kept us at an instant."""
    s = settle(s, states)
    found, following = _reached(s, now)
    entries = {one.at: Entry(one.at, _refused(s, one, now), now, _late(s, one.at, now)) for one in found}
    open_ = [one.at for one in found if not one.why and not s.paused and not _missed(s, one.at, now)]
    more = bool(following) and following + s.schedule.jitter(following) <= now  # there were too many for one decision
    chosen = _coalesce(s, open_, more)
    starts: list[Start] = []
    for at in open_:
        entries[at] = replace(entries[at], why=Why.COALESCED)
    for at in chosen:
        why, start = _overlap(s, at, newest=at == chosen[-1])
        late = entries[at].late_ms > ON_TIME_MS
        entries[at] = replace(entries[at], why=Why.CAUGHT_UP if why is Why.FIRED and late else why)
        if start:
            starts.append(start)
            s = replace(s, active=_followed(s, start))
    told = tuple(replace(e, note=reason(e.at)) if e.late_ms > ON_TIME_MS else e for e in entries.values())
    return Decision(replace(s, next=following, caught=more and (s.caught or bool(starts))), told, tuple(starts))


def settle(s: Standing, states: Mapping[str, State | None]) -> Standing:
    """Counts failures in a row of the tasks that have ended, and pauses after as many as the schedule bears."""
    active, failures = [], s.failures
    for id in s.active:
        state = states.get(id)
        if state is not None and state not in ENDED:
            active.append(id)
        # Nobody knows it any more: it was no failure, since dead letters are kept for longer than results.
        failures = {State.SUCCESS: 0, None: 0, State.FAILURE: failures + 1}.get(state, failures)
    paused = s.paused
    if s.schedule.pause_after and failures >= s.schedule.pause_after:
        paused = paused or f"{failures} failures in a row"
    return replace(s, active=tuple(active), failures=failures, paused=paused)


def _reached(s: Standing, now: int) -> tuple[list[Due], int]:
    """What is due, AT_ONCE at most, and the first due instant after it (0: there is none)."""
    found: list[Due] = []
    for one in islice(after(s.schedule, s.next - 1), AT_ONCE + 1) if s.next else ():
        if one.at + s.schedule.jitter(one.at) > now:
            return found, one.at
        if len(found) == AT_ONCE:  # half of them, so that as many are left as may run
            return found[: AT_ONCE // 2], found[AT_ONCE // 2].at
        found.append(one)
    return found, 0


def _refused(s: Standing, one: Due, now: int) -> Why:
    if one.why:
        return Why(one.why)
    return Why.PAUSED if s.paused else Why.MISSED_WINDOW


def _late(s: Standing, at: int, now: int) -> int:
    return max(0, now - at - s.schedule.jitter(at))


def _missed(s: Standing, at: int, now: int) -> bool:
    return _late(s, at, now) > s.schedule.catch_up_s * 1000


def _coalesce(s: Standing, due: Sequence[int], more: bool) -> list[int]:
    """Which of those that are due run. With `more` to come, what may be newer is not here yet."""
    if s.schedule.coalesce == "earliest":
        return list(due[:1]) if not s.caught else []
    most = s.schedule.most if s.schedule.coalesce == "all" else 1
    return [] if more else list(due[-most:])


def _overlap(s: Standing, at: int, newest: bool) -> tuple[Why, Start | None]:
    """What the policy makes of the occurrence of `at` while `active` go on."""
    id, policy, before = occurrence_id(s.schedule.id, at), s.schedule.overlap, s.active
    if policy == "cancel" and not newest:  # the next one would end it at once
        return Why.SKIPPED_OVERLAP, None
    if not before or policy == "allow":
        return Why.FIRED, Start(id, at)
    if policy == "cancel":
        return Why.FIRED, Start(id, at, before, before)
    if policy == "buffer_all" or (policy == "buffer_one" and len(before) == 1):
        return Why.BUFFERED, Start(id, at, before[-1:])
    return Why.SKIPPED_OVERLAP, None


def _followed(s: Standing, start: Start) -> tuple[str, ...]:
    """Tasks whose end changes nothing are not followed."""
    if s.schedule.overlap == "allow" and not s.schedule.pause_after:
        return ()
    return (*s.active, start.id)[-FOLLOWED:]
