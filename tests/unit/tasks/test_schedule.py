from __future__ import annotations

from typing import Any

import pytest

from ray_app.errors import InvalidField
from ray_app.tasks.schedule import Schedule, occurrence_id, parse, written
from tests.schedules_world import START, at


def schedule(**fields: Any) -> Schedule:
    timing = {} if "every_s" in fields else {"cron": "* * * * *"}
    return parse({"id": "a", "handler": "works", **timing, **fields})


@pytest.mark.parametrize(
    ("fields", "name", "says"),
    [
        ({"cron": "0 25 * * *"}, "cron", "Bad hour"),
        ({"cron": "0 3 * *"}, "cron", "5 fields"),
        ({"cron": "0 3 31 2 *"}, "cron", "Bad day-of-month"),
        ({"cron": "0 3 * * monday"}, "cron", "Bad day-of-week"),
        ({"cron": None}, "cron", "cron or every_s"),
        ({"every_s": 60, "cron": "* * * * *"}, "cron", "cron or every_s"),
        ({"every_s": 0}, "every_s", "greater than or equal to 1"),
        ({"anchor": 1}, "anchor", "multiple of 1000"),
        ({"every_s": 60, "anchor": 10**15}, "anchor", "less than or equal to 4102444800000"),
        ({"zone": "Mars/Olympus"}, "zone", "Europe/London"),
        ({"overlap": "queue"}, "overlap", "buffer_one"),
        ({"coalesce": "none"}, "coalesce", "latest"),
        ({"exclude": ["2026-02-30"]}, "exclude", "day is out of range"),
        ({"id": "a b"}, "id", "pattern"),
        ({"id": "a@b"}, "id", "pattern"),
        ({"timezone": "UTC"}, "timezone", "catch_up_s"),
    ],
)
def test_what_is_refused_is_named_with_what_is_allowed(fields: dict[str, Any], name: str, says: str) -> None:
    with pytest.raises(InvalidField, match=says) as e:
        parse({"id": "a", "handler": "works", **({} if "every_s" in fields else {"cron": "* * * * *"}), **fields})
    assert e.value.field == name


def test_what_is_shown_is_what_is_put() -> None:
    made = schedule(zone="Europe/London", exclude=["2026-12-25"], overlap="cancel", note="x", argument={"n": 1})
    assert parse(made.public()) == made


def test_an_occurrence_is_called_by_its_schedule_and_its_instant_in_utc() -> None:
    assert occurrence_id("train-model-daily", at("2026-11-28T03:00:00Z")) == "train-model-daily@2026-11-28T03:00:00Z"
    assert written(at("2026-11-28T03:00:00.120Z")) == "2026-11-28T03:00:00.120Z"


def test_jitter_is_the_same_at_every_call_and_spreads() -> None:
    one = schedule(jitter_s=60)
    drawn = [one.jitter(START + k * 60_000) for k in range(200)]
    assert drawn == [schedule(jitter_s=60).jitter(START + k * 60_000) for k in range(200)]
    assert all(0 <= j < 60_000 for j in drawn)
    assert len(set(drawn)) > 190
    assert 20_000 < sum(drawn) / len(drawn) < 40_000
    assert schedule().jitter(START) == 0


def test_of_two_schedules_each_has_a_share_of_its_own() -> None:
    assert len({schedule(id=f"s{k}", jitter_s=600).jitter(START) for k in range(100)}) > 95


@pytest.mark.parametrize(
    ("fields", "twice"),
    [
        ({"cron": "0 * * * *"}, True), ({"cron": "*/5 2 * * *"}, True), ({"cron": "30 1 * * *"}, False),
        ({"cron": "0 30 1 * * *"}, False), ({"cron": "30 1 * * *", "fold": "both"}, True),
        ({"cron": "0 * * * *", "fold": "first"}, False),
    ],
)  # fmt: skip
def test_a_local_time_that_comes_twice_runs_twice_where_hours_or_minutes_are_free(
    fields: dict[str, Any], twice: bool
) -> None:
    assert schedule(**fields).twice is twice


def test_changed_times_are_told_from_other_changes() -> None:
    assert schedule(note="x", overlap="allow").same_times(schedule())
    for field in ({"cron": "0 * * * *"}, {"zone": "Europe/London"}, {"jitter_s": 5}, {"exclude": ["2026-12-25"]}):
        assert not schedule(**field).same_times(schedule())
