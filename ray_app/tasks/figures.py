"""Figures of the queue for Prometheus: ours, and those of Flower under its names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray_app.tasks.inspection import Inspection
from ray_app.tasks.task import State

GAUGE, COUNT, SECONDS = "gauge", "count", "seconds"  # SECONDS: a histogram
EVENTS = {
    State.SUCCESS.value: "task-succeeded", State.FAILURE.value: "task-failed", State.RETRY.value: "task-retried",
    State.REVOKED.value: "task-revoked",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measure:
    """`kind`: GAUGE is set, COUNT is added to, SECONDS is observed."""

    kind: str
    about: str
    labels: tuple[str, ...] = ()


MEASURES: Mapping[str, Measure] = {
    "lemo_task_ended_total": Measure(COUNT, "Attempts that ended.", ("task", "state")),
    "lemo_task_run_seconds": Measure(SECONDS, "How long an attempt ran.", ("task",)),
    "lemo_task_wait_seconds": Measure(SECONDS, "From when a task could begin to its first attempt.", ("task",)),
    "lemo_task_queue_length": Measure(GAUGE, "Tasks of a queue that could begin.", ("queue",)),
    "lemo_task_queue_oldest_seconds": Measure(GAUGE, "For how long the oldest of them has waited.", ("queue",)),
    "lemo_task_open": Measure(GAUGE, "Tasks that have not ended."),
    "lemo_task_delayed": Measure(GAUGE, "Tasks that wait for their time."),
    "lemo_task_running": Measure(GAUGE, "Tasks that a slot has."),
    "lemo_task_dead": Measure(GAUGE, "Dead letters."),
    "lemo_task_unshipped": Measure(GAUGE, "Ended attempts that the history does not have yet."),
    "flower_events_total": Measure(COUNT, "Attempts by what Celery's event would be.", ("task", "type")),
    "flower_task_runtime_seconds": Measure(SECONDS, "As lemo_task_run_seconds.", ("task",)),
    "flower_task_prefetch_time_seconds": Measure(GAUGE, "How long the last task waited to begin.", ("task",)),
    "flower_worker_online": Measure(GAUGE, "Workers that were seen lately.", ("worker",)),
    "flower_worker_prefetched_tasks": Measure(GAUGE, "Always 0: nothing is prefetched.", ("worker",)),
    "flower_worker_number_of_currently_executing_tasks": Measure(GAUGE, "Its slots that have a task.", ("worker",)),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of the measure `name`; `labels` in the order of its own."""

    name: str
    labels: tuple[str, ...]
    value: float

    @property
    def tags(self) -> dict[str, str]:
        return dict(zip(MEASURES[self.name].labels, self.labels, strict=True))


async def now(inspection: Inspection) -> list[Figure]:
    """The gauges of the whole cluster, at this moment."""
    found = [Figure(f"lemo_task_{n}", (), float(v)) for n, v in (await inspection.counts()).items()]
    for line in await inspection.queues():
        found.append(Figure("lemo_task_queue_length", (line.queue,), float(line.length)))
        found.append(Figure("lemo_task_queue_oldest_seconds", (line.queue,), line.oldest_s))
    for worker in await inspection.workers():
        values = {"online": worker.online, "prefetched_tasks": 0, "number_of_currently_executing_tasks": worker.running}
        found += [Figure(f"flower_worker_{n}", (worker.id,), float(v)) for n, v in values.items()]
    return found


def of_attempts(records: Iterable[Mapping[str, Any]]) -> Iterator[Figure]:
    """What ended attempts add, each once: whoever ships them counts them."""
    for r in records:
        task, state, began = str(r["name"]), str(r["state"]), int(r["started_at"] or 0)
        yield Figure("lemo_task_ended_total", (task, state), 1.0)
        yield Figure("flower_events_total", (task, EVENTS[state]), 1.0)
        if began:
            ran = max(0, int(r["ended_at"] or 0) - began) / 1000
            yield Figure("lemo_task_run_seconds", (task,), ran)
            yield Figure("flower_task_runtime_seconds", (task,), ran)
        if began and int(r["attempt"]) == 1:
            waited = _waited_ms(r, began) / 1000
            yield Figure("lemo_task_wait_seconds", (task,), waited)
            yield Figure("flower_task_prefetch_time_seconds", (task,), waited)


def _waited_ms(r: Mapping[str, Any], began: int) -> int:
    ready = int(r.get("ready_at") or 0)  # of one that was parked: when it went on
    if r.get("after", "{}") != "{}" and 0 < ready <= began:
        return began - ready
    eta = int(r["eta"] or 0)  # of one that is tried again: of its next attempt
    return max(0, began - max(int(r["submitted_at"] or 0), eta if eta <= began else 0))


class Gone:
    """Gauges that were told and are no more: each is told once more, as 0, since Prometheus is shown the last value of
    a process for as long as it lives."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, tuple[str, ...]], None] = {}

    def with_zeros(self, figures: Iterable[Figure]) -> list[Figure]:
        found = list(figures)
        here = {(f.name, f.labels): None for f in found if MEASURES[f.name].kind == GAUGE}
        gone = [Figure(*key, 0.0) for key in self._told if key not in here]
        self._told = here
        return [*found, *gone]
