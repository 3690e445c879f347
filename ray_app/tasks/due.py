"""When a schedule is due: cron over local times, made into instants by its own rules for the days of a clock change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heappop, heappush
from itertools import islice, takewhile

from cronsim import CronSim

from ray_app.tasks.schedule import Schedule, zone_of

DAY = timedelta(days=1)
ENDS = datetime(9990, 1, 1)
GAP, EXCLUDED = "skipped_gap", "excluded"


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """A due instant (ms), and why it does not run: GAP, EXCLUDED, or nothing."""

    at: int
    why: str = ""


def after(schedule: Schedule, at: int) -> Iterator[Due]:
    """Due instants later than `at` (ms), in their order, each once; without end where the rule has none."""
    return _cron(schedule, at) if schedule.cron else _interval(schedule, at)


def due(schedule: Schedule, since: int, until: int) -> Iterator[Due]:
    """Those later than `since` and not later than `until` (ms)."""
    return takewhile(lambda one: one.at <= until, after(schedule, since))


def preview(schedule: Schedule, at: int, n: int = 5) -> list[Due]:
    """The next n."""
    return list(islice(after(schedule, at), n))


def _interval(schedule: Schedule, at: int) -> Iterator[Due]:
    every, zone = (schedule.every_s or 1) * 1000, zone_of(schedule.zone)
    k = max(0, (at - schedule.anchor) // every + 1)
    while True:
        one = schedule.anchor + k * every
        yield Due(one, _excluded(schedule, _local(one, zone)))
        k += 1


def _cron(schedule: Schedule, at: int) -> Iterator[Due]:
    last = at
    for one in _instants(schedule, at, zone_of(schedule.zone)):
        if one.at > last:  # a shifted time may be due at the instant of another one
            yield one
            last = one.at


def _instants(schedule: Schedule, at: int, zone: tzinfo) -> Iterator[Due]:
    """The library steps over local times; around a change of the clock their instants are not in the same order, so
    they wait until no later local time can come before them."""
    waiting: list[Due] = []
    for local in _locals(schedule.cron or "", at, zone):
        first, second = _utc(local, zone, 0), _utc(local, zone, 1)
        bound, why = min(first, second), _excluded(schedule, local)
        while waiting and waiting[0].at < bound:
            yield heappop(waiting)
        if first == second and not waiting:
            yield Due(first, why)
        elif first <= second:  # it comes twice where they differ
            heappush(waiting, Due(first, why))
            if first < second and schedule.twice:
                heappush(waiting, Due(second, why))
        else:  # the clock leaps over it; by the offset before, as RFC 5545 has it, it is the later of the two
            heappush(waiting, Due(first, why or ("" if schedule.gap == "shift" else GAP)))
    yield from sorted(waiting)


def _locals(cron: str, at: int, zone: tzinfo) -> Iterator[datetime]:
    """Local times from well before `at`, so that none is left out whose instant is later than `at`."""
    here = datetime.fromtimestamp(at / 1000, UTC)
    offsets = [(here + k * DAY).astimezone(zone).utcoffset() or timedelta() for k in (-1, 0, 1)]
    begin = (here.astimezone(zone) - (max(offsets) - min(offsets))).replace(tzinfo=None)
    return takewhile(lambda local: local < ENDS, CronSim(cron, begin))


def _utc(local: datetime, zone: tzinfo, fold: int) -> int:
    return int(local.replace(tzinfo=zone, fold=fold).timestamp()) * 1000


def _local(at: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(zone)


def _excluded(schedule: Schedule, local: datetime) -> str:
    return EXCLUDED if schedule.exclude and local.date().isoformat() in schedule.exclude else ""
