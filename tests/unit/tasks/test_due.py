"""When schedules are due: cron, zones, and the days on which a clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.tasks.due import EXCLUDED, GAP, Due, due, preview
from ray_app.tasks.schedule import written
from tests.schedules_world import at
from tests.unit.tasks.test_schedule import schedule

NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
ZONES = ("UTC", NEW_YORK, LONDON, LORD_HOWE, "Asia/Tokyo", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo")


def next_of(since: str, n: int = 3, **fields: Any) -> list[str]:
    return [written(d.at) + (f" {d.why}" if d.why else "") for d in preview(schedule(**fields), at(since), n)]


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("0 9 * * MON-FRI", ["2026-11-30T09:00:00Z", "2026-12-01T09:00:00Z", "2026-12-02T09:00:00Z"]),
        ("0 9 * jan,Jul *", ["2027-01-01T09:00:00Z", "2027-01-02T09:00:00Z", "2027-01-03T09:00:00Z"]),
        ("0 9 L * *", ["2026-11-30T09:00:00Z", "2026-12-31T09:00:00Z", "2027-01-31T09:00:00Z"]),
        ("0 9 LW * *", ["2026-11-30T09:00:00Z", "2026-12-31T09:00:00Z", "2027-01-29T09:00:00Z"]),
        ("0 9 * * 5L", ["2026-12-25T09:00:00Z", "2027-01-29T09:00:00Z", "2027-02-26T09:00:00Z"]),
        ("0 9 * * mon#1", ["2026-12-07T09:00:00Z", "2027-01-04T09:00:00Z", "2027-02-01T09:00:00Z"]),
        ("30 */5 * * * *", ["2026-11-28T00:00:30Z", "2026-11-28T00:05:30Z", "2026-11-28T00:10:30Z"]),
        ("*/20 * * * * *", ["2026-11-28T00:00:20Z", "2026-11-28T00:00:40Z", "2026-11-28T00:01:00Z"]),
        ("0 6 * * 1", ["2026-11-30T06:00:00Z", "2026-12-07T06:00:00Z", "2026-12-14T06:00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z"]),
    ],
)
def test_cron(cron: str, wanted: list[str]) -> None:
    assert next_of("2026-11-28T00:00:00Z", cron=cron) == wanted


def test_an_interval_counts_from_its_anchor_and_never_drifts() -> None:
    """Celery beat's interval is last_run + every: it drifts by each delay, and a lost state file starts it anew."""
    one = schedule(every_s=90, anchor=at("2026-11-28T00:00:07Z"))
    late = [d.at for k in range(100) for d in preview(one, at("2026-11-28T00:00:07Z") + k * 90_000 + 89_999, 1)]
    assert late == [one.anchor + (k + 1) * 90_000 for k in range(100)]
    assert preview(one, at("2026-01-01T00:00:00Z"), 1) == [Due(one.anchor)]


def test_hourly_is_due_in_each_hour_of_the_us_fall_back() -> None:
    """Celery 5.7: an hourly crontab is not due in the second 01:00 (#10107)."""
    wanted = [f"2026-11-01T{h:02}:00:00Z" for h in (4, 5, 6, 7, 8)]
    assert next_of("2026-11-01T03:30:00Z", 5, cron="0 * * * *", zone=NEW_YORK) == wanted
    assert next_of("2026-11-01T05:30:00Z", 2, cron="0 * * * *", zone=NEW_YORK) == wanted[2:4]


def test_a_time_that_does_not_exist_is_skipped_or_shifted_as_it_is_told() -> None:
    """Celery 5.7: 02:30 on the day of spring-forward fires at 03:30, and nothing says otherwise."""
    asked = {"cron": "30 2 * * *", "zone": NEW_YORK}
    shifted = ["2026-03-07T07:30:00Z", "2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"]
    assert next_of("2026-03-07T00:00:00Z", gap="shift", **asked) == shifted
    skipped = [shifted[0], shifted[1] + " skipped_gap", shifted[2]]
    assert next_of("2026-03-07T00:00:00Z", gap="skip", **asked) == skipped


def test_daily_across_spring_forward_keeps_its_local_time() -> None:
    """Celery #9653: daily 16:04 in New York."""
    wanted = ["2026-03-07T21:04:00Z", "2026-03-08T20:04:00Z", "2026-03-09T20:04:00Z"]
    assert next_of("2026-03-07T00:00:00Z", cron="4 16 * * *", zone=NEW_YORK) == wanted


@pytest.mark.parametrize(("fold", "times"), [("first", ["00:30"]), ("both", ["00:30", "01:30"]), (None, ["00:30"])])
def test_a_time_that_comes_twice_runs_as_it_is_told(fold: str | None, times: list[str]) -> None:
    found = next_of("2026-10-25T00:00:00Z", len(times) + 1, cron="30 1 * * *", zone=LONDON, fold=fold)
    assert found == [*(f"2026-10-25T{t}:00Z" for t in times), "2026-10-26T01:30:00Z"]


def test_half_an_hour_of_lord_howe() -> None:
    """Its clock is changed by 30 minutes: 02:00 to 02:30 in October, back in April."""
    spring = next_of("2026-10-03T15:00:00Z", 3, cron="15 2 * * *", zone=LORD_HOWE)
    assert spring == ["2026-10-03T15:45:00Z", "2026-10-04T15:15:00Z", "2026-10-05T15:15:00Z"]
    every = next_of("2026-04-04T14:00:00Z", 4, cron="*/30 * * * *", zone=LORD_HOWE)
    assert every == [f"2026-04-04T{t}:00Z" for t in ("14:30", "15:00", "15:30", "16:00")]


def test_a_shifted_time_at_the_instant_of_another_is_due_once() -> None:
    found = next_of("2026-03-08T06:30:00Z", 4, cron="15,30 2,3 * * *", zone=NEW_YORK, gap="skip")
    assert found == [f"2026-03-{t}:00Z" for t in ("08T07:15", "08T07:30", "09T06:15", "09T06:30")]


def test_a_day_that_a_zone_never_had() -> None:
    found = next_of("2011-12-29T00:00:00Z", cron="0 12 * * *", zone="Pacific/Apia")
    assert found == ["2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"]


def test_excluded_dates_are_local_ones_and_stay_in_the_list() -> None:
    found = next_of("2026-12-24T00:00:00Z", cron="0 23 * * *", zone="America/New_York", exclude=["2026-12-24"])
    assert found == ["2026-12-24T04:00:00Z", "2026-12-25T04:00:00Z excluded", "2026-12-26T04:00:00Z"]
    assert preview(schedule(every_s=86400, exclude=["2026-12-25"]), at("2026-12-24T12:00:00Z"), 1)[0].why == EXCLUDED


CRONS = {
    "0 * * * *": lambda t: t.minute == 0,
    "*/20 * * * *": lambda t: t.minute % 20 == 0,
    "30 2 * * *": lambda t: (t.hour, t.minute) == (2, 30),
    "15,45 0-3 * * *": lambda t: t.minute in (15, 45) and t.hour <= 3,
    "10 1,2,3 * * 0": lambda t: t.minute == 10 and t.hour in (1, 2, 3) and t.isoweekday() == 7,
}
TURNS = ("2026-03-08", "2026-11-01", "2026-03-29", "2026-10-25", "2026-04-04", "2026-10-03", "2026-07-01")


@given(cron=st.sampled_from(sorted(CRONS)), zone=st.sampled_from(ZONES), day=st.sampled_from(TURNS),
       minute=st.integers(0, 2879))  # fmt: skip
def test_it_agrees_with_a_clock_that_is_read_minute_by_minute(cron: str, zone: str, day: str, minute: int) -> None:
    """Of the instants at which a clock on the wall shows the time, whichever span is asked for."""
    since = at(f"{day}T00:00:00Z") - 86_400_000 + minute * 60_000
    until, fits = since + 2 * 86_400_000, CRONS[cron]
    found = list(due(schedule(cron=cron, zone=zone, fold="both", gap="skip"), since, until))
    walls = [
        datetime.fromtimestamp(t / 1000, UTC).astimezone(ZoneInfo(zone))
        for t in range(since + 60_000, until + 1, 60_000)
    ]
    assert [d.at for d in found if not d.why] == [int(w.timestamp()) * 1000 for w in walls if fits(w)]
    leapt = [d for d in found if d.why == GAP]
    assert all(not fits(datetime.fromtimestamp(d.at / 1000, UTC).astimezone(ZoneInfo(zone))) for d in leapt)
    assert all(a.at < b.at for a, b in pairwise(found))


@given(zone=st.sampled_from(ZONES), gap=st.sampled_from(["skip", "shift"]), cron=st.sampled_from(sorted(CRONS)),
       fold=st.sampled_from(["first", "both", None]), day=st.sampled_from(TURNS), cut=st.integers(0, 2880))  # fmt: skip
def test_two_spans_are_due_as_the_whole(zone: str, gap: str, fold: str | None, cron: str, day: str, cut: int) -> None:
    """Wherever the scheduler stops and begins again, no due time is lost or comes twice."""
    one = schedule(cron=cron, zone=zone, gap=gap, fold=fold)
    a = at(f"{day}T00:00:00Z") - 86_400_000
    b, c = a + cut * 60_000 + 1, a + 2 * 86_400_000
    assert [*due(one, a, b), *due(one, b, c)] == list(due(one, a, c))


def test_a_first_pass_alone_is_each_wall_time_once() -> None:
    found = list(
        due(
            schedule(cron="*/15 1 * * *", zone=NEW_YORK, fold="first"),
            at("2026-11-01T04:00:00Z"),
            at("2026-11-01T12:00:00Z"),
        )
    )
    assert [written(d.at)[11:16] for d in found] == ["05:00", "05:15", "05:30", "05:45"]
    step = timedelta(minutes=15)
    assert all(b.at - a.at == step.total_seconds() * 1000 for a, b in pairwise(found))
