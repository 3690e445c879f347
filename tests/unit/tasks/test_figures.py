"""What ended attempts add to the figures, and gauges that are no more."""

from __future__ import annotations

from typing import Any

import pytest

from ray_app.tasks.figures import EVENTS, MEASURES, Figure, Gone, of_attempts
from ray_app.tasks.pools import queue_of
from ray_app.tasks.task import ENDED, State


def record(state: str = "SUCCESS", **more: Any) -> dict[str, Any]:
    """As Lua writes it: every value is text."""
    times = {"submitted_at": "1000", "eta": "0", "started_at": "1500", "ended_at": "4000", "attempt": "1"}
    return {"name": "nap", "state": state, **times, **more}


def values(*records: dict[str, Any]) -> dict[str, float]:
    return {f.name: f.value for f in of_attempts(records)}


def test_an_attempt_tells_how_long_it_ran_and_waited() -> None:
    found = values(record())
    assert (found["lemo_task_run_seconds"], found["flower_task_runtime_seconds"]) == (2.5, 2.5)
    assert (found["lemo_task_wait_seconds"], found["flower_task_prefetch_time_seconds"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("more", "waited"),
    [
        ({"eta": "1400"}, 0.1),  # it could not begin before
        ({"eta": "64000"}, 0.5),  # of its next attempt
        ({"attempt": "2"}, None),  # it waited for its retry
        ({"after": '["a"]', "ready_at": "1450"}, 0.05),  # it waited for another
        ({"after": "{}", "ready_at": "1450"}, 0.5),
        ({"after": '["a"]', "ready_at": "3000"}, 0.5),  # when it went on
    ],
)
def test_a_wait_counts_from_when_a_task_could_begin(more: dict[str, str], waited: float | None) -> None:
    assert values(record("RETRY", **more)).get("lemo_task_wait_seconds") == waited


def test_what_never_began_neither_ran_nor_waited() -> None:
    found = values(record("REVOKED", started_at="0", attempt="0"))
    assert set(found) == {"lemo_task_ended_total", "flower_events_total"}


def test_every_state_in_which_an_attempt_ends_has_an_event_of_celery() -> None:
    assert set(EVENTS) == {s.value for s in ENDED | {State.RETRY}}


def test_every_figure_is_a_measure_with_its_labels() -> None:
    for figure in of_attempts([record()]):
        assert tuple(figure.tags) == MEASURES[figure.name].labels


def test_a_gauge_that_is_no_more_is_told_once_as_nothing() -> None:
    gone, first = Gone(), Figure("flower_worker_online", ("a",), 1.0)
    assert gone.with_zeros([first]) == [first]
    assert gone.with_zeros([]) == [Figure("flower_worker_online", ("a",), 0.0)]
    assert gone.with_zeros([]) == []


@pytest.mark.parametrize(
    ("priority", "queue"),
    [(10, "high_priority"), (8, "high_priority"), (7, "default"), (5, "default"), (3, "default"), (2, "low_priority"),
     (0, "low_priority")],
)  # fmt: skip
def test_a_priority_means_the_nearest_queue_and_between_two_the_higher(priority: int, queue: str) -> None:
    assert queue_of(priority) == queue
