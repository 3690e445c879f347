"""A history as slices of time, a week apart: of each the examples that the platform would have had at its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.scenario import HOME, Scenario
from ray_app.config import Features
from ray_app.registry.watch import Models
from ray_app.training.history import History
from ray_app.training.judge import Slice
from ray_app.training.past import FEATURES, examples, past
from ray_app.training.report import Tell
from ray_app.types import DAY_MS

SLICES = 10
LEAST_USERS = 20  # with something taken, in each slice


@dataclass(frozen=True, slots=True)
class Slicing:
    """For which scenario, with labels from how many days after each moment; `features`: of the hot sums that serving
    reads."""

    scenario: Scenario = HOME
    label_days: int = 14
    features: Features = FEATURES


def weeks(events: History, pinned: Pinned, live: Models, how: Slicing, tell: Tell) -> Iterator[Slice]:
    """The newest first, until one has too few visitors; none of an empty history. Channels that `live` has a version of
    are fitted again, the same way, on what came before each slice."""
    asked = {name: r for name, r in live.recallers.items() if name in how.scenario.channels}
    kept = Models(live.embedder, asked, None, live.versions)
    for cut, until in _slices(int(events.events.at[-1]) + 1, how.label_days) if len(events.events) else ():
        then = past(events, pinned, cut, until, kept, how.features)
        if len(then.wanted) < LEAST_USERS:
            return
        tell(f"{how.label_days} days from {day(cut)}: {len(then.wanted):,} visitors took something new")
        yield Slice(list(examples(then, how.scenario)), then, how.scenario.score)


def _slices(end: int, label_days: int) -> list[tuple[int, int]]:
    """(cut, until) in ms, the newest first, a week apart: the first judges, those that end before it teach, and the
    newest SLICES of all make the final fit."""
    length = label_days * DAY_MS
    more = -(-label_days // 7)  # slices that overlap the one that judges
    return [(end - length - k * 7 * DAY_MS, end - k * 7 * DAY_MS) for k in range(SLICES + more)]


def day(at: int) -> str:
    """The date (UTC) of a time in ms."""
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
