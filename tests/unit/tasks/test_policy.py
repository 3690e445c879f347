"""What becomes of due times: catch-up, coalescing, overlap, pauses. All of it without a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.tasks.due import due
from ray_app.tasks.policy import AT_ONCE, RAN, Decision, Standing, Why, decide, settle
from ray_app.tasks.schedule import occurrence_id, written
from ray_app.tasks.task import State
from tests.schedules_world import START, at
from tests.unit.tasks.test_schedule import schedule

MINUTE = 60_000
FIRST = START + MINUTE


def standing(active: tuple[str, ...] = (), **fields: Any) -> Standing:
    """Every minute, and nothing is decided yet."""
    return Standing(schedule(**fields), next=FIRST, active=active)


def made(s: Standing, now: int, states: Mapping[str, State | None] | None = None) -> Decision:
    known = dict.fromkeys(s.active, State.STARTED)
    return decide(s, now, known if states is None else states, lambda _: "a reason")


def whys(d: Decision) -> list[str]:
    return [str(e.why) for e in d.entries]


def test_what_is_on_time_fires_and_the_next_one_is_known() -> None:
    d = made(standing(), FIRST + 5)
    assert [(e.at, e.why, e.late_ms, e.note) for e in d.entries] == [(FIRST, Why.FIRED, 5, "")]
    assert [s.id for s in d.starts] == [occurrence_id("a", FIRST)]
    assert d.standing.next == FIRST + MINUTE
    assert d.counts() == {"fired": 1, "late_ms": 5}


def test_nothing_is_due_before_its_time() -> None:
    d = made(standing(), FIRST - 1)
    assert (d.entries, d.starts, d.standing.next) == ((), (), FIRST)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"coalesce": "latest"}, ["coalesced"] * 4 + ["caught_up"]),
        ({"coalesce": "earliest"}, ["caught_up"] + ["coalesced"] * 4),
        ({"coalesce": "all", "overlap": "allow"}, ["caught_up"] * 5),
        ({"coalesce": "all", "most": 2, "overlap": "allow"}, ["coalesced"] * 3 + ["caught_up"] * 2),
        ({"coalesce": "all", "overlap": "buffer_all"}, ["caught_up"] + ["buffered"] * 4),
        ({"coalesce": "all", "overlap": "buffer_one"}, ["caught_up", "buffered"] + ["skipped_overlap"] * 3),
        ({"coalesce": "all", "overlap": "skip"}, ["caught_up"] + ["skipped_overlap"] * 4),
        ({"coalesce": "all", "overlap": "cancel"}, ["skipped_overlap"] * 4 + ["caught_up"]),
        ({"coalesce": "all", "overlap": "allow", "catch_up_s": 150}, ["missed_window"] * 2 + ["caught_up"] * 3),
        ({"catch_up_s": 10}, ["missed_window"] * 5),
    ],
)
def test_five_that_are_reached_at_once(fields: dict[str, Any], wanted: list[str]) -> None:
    """RedBeat and Celery beat fire once for all that was missed, however late, and know no other way."""
    d = made(standing(**fields), FIRST + 4 * MINUTE + 20_000)
    assert whys(d) == wanted
    assert [s.id for s in d.starts] == [occurrence_id("a", e.at) for e in d.entries if e.why in RAN]
    assert all(e.note == "a reason" for e in d.entries)
    assert d.standing.next == FIRST + 5 * MINUTE


def test_an_interval_has_a_catch_up_window_too() -> None:
    """Celery's beat_cron_starting_deadline is for crontabs alone."""
    s = Standing(schedule(every_s=60, catch_up_s=30), next=FIRST)
    assert whys(made(s, FIRST + 2 * MINUTE + 10_000)) == ["missed_window", "missed_window", "caught_up"]


ONE, TWO = occurrence_id("a", START - MINUTE), occurrence_id("a", START)


@pytest.mark.parametrize(
    ("overlap", "active", "why", "after", "cancel"),
    [
        ("skip", (ONE,), Why.SKIPPED_OVERLAP, None, None),
        ("skip", (), Why.FIRED, (), ()),
        ("buffer_one", (ONE,), Why.BUFFERED, (ONE,), ()),
        ("buffer_one", (ONE, TWO), Why.SKIPPED_OVERLAP, None, None),
        ("buffer_all", (ONE, TWO), Why.BUFFERED, (TWO,), ()),
        ("cancel", (ONE, TWO), Why.FIRED, (ONE, TWO), (ONE, TWO)),
        ("allow", (ONE,), Why.FIRED, (), ()),
    ],
)
def test_while_the_one_before_goes_on(
    overlap: str, active: tuple[str, ...], why: Why, after: tuple[str, ...] | None, cancel: tuple[str, ...] | None
) -> None:
    d = made(standing(active, overlap=overlap), FIRST)
    assert [e.why for e in d.entries] == [why]
    assert [(s.after, s.cancel) for s in d.starts] == ([] if after is None else [(after, cancel)])


@pytest.mark.parametrize("state", [State.SUCCESS, State.FAILURE, State.REVOKED, None])
def test_what_has_ended_is_in_nobodys_way(state: State | None) -> None:
    d = made(standing((ONE,), overlap="skip"), FIRST, {ONE: state})
    assert whys(d) == ["fired"]
    assert d.standing.active == (occurrence_id("a", FIRST),)


def test_failures_in_a_row_pause_it_and_what_is_due_then_is_written_down() -> None:
    s = standing((ONE, TWO), pause_after=2, overlap="allow")
    d = made(s, FIRST, {ONE: State.FAILURE, TWO: State.FAILURE})
    assert (whys(d), d.starts, d.standing.paused) == (["paused"], (), "2 failures in a row")
    once = made(s, FIRST, {ONE: State.SUCCESS, TWO: State.FAILURE})
    assert (whys(once), once.standing.failures, once.standing.paused) == (["fired"], 1, "")
    assert settle(replace(s, failures=1), {ONE: State.SUCCESS, TWO: State.FAILURE}).failures == 1
    assert settle(s, {ONE: State.FAILURE, TWO: State.REVOKED}).failures == 1  # what was cancelled did not fail


def test_what_the_queue_has_forgotten_was_no_failure() -> None:
    """Results are kept for a week, failures for a month: of a monthly schedule a success is seen as nothing at all."""
    s = replace(standing((ONE, TWO), pause_after=2), failures=1)
    assert settle(s, {ONE: None, TWO: State.FAILURE}).failures == 1


def test_what_does_not_run_by_its_rule_is_in_the_ledger_too() -> None:
    zone, day = "America/New_York", at("2026-03-08T00:00:00Z")
    made_of = schedule(cron="30 2 * * *", zone=zone, gap="skip", exclude=["2026-03-09"], catch_up_s=10 * 86400)
    s = Standing(made_of, next=next(due(made_of, day, day + 10**9)).at)
    d = made(s, at("2026-03-10T12:00:00Z"))
    told = {written(e.at): str(e.why) for e in d.entries}
    assert told == {
        "2026-03-08T07:30:00Z": "skipped_gap", "2026-03-09T06:30:00Z": "excluded", "2026-03-10T06:30:00Z": "caught_up",
    }  # fmt: skip


def test_jitter_delays_what_is_due_and_its_lateness_counts_from_there() -> None:
    s = standing(jitter_s=50)
    shift = s.schedule.jitter(FIRST)
    assert shift > 0
    assert s.wake == FIRST + shift
    assert made(s, s.wake - 1).entries == ()
    assert [(e.at, e.late_ms) for e in made(s, s.wake).entries] == [(FIRST, 0)]


@pytest.mark.parametrize("coalesce", ["latest", "earliest", "all"])
@pytest.mark.parametrize("each", [1, 7])
def test_a_long_absence_is_decided_in_parts_that_are_together_as_the_whole(coalesce: str, each: int) -> None:
    """More due times than one decision takes: each is named once, and as many run as the policy says."""
    s = Standing(
        schedule(every_s=each, anchor=START, coalesce=coalesce, most=300, overlap="allow"), next=START + each * 1000
    )
    now, entries, starts = START + 3 * AT_ONCE * each * 1000, [], []
    while True:
        d = made(s, now)
        entries, starts, s = [*entries, *d.entries], [*starts, *d.starts], d.standing
        if s.next > now:
            break
    assert [e.at for e in entries] == [x.at for x in due(s.schedule, START, now)]
    newest = [occurrence_id("a", e.at) for e in entries]
    assert [x.id for x in starts] == {"latest": newest[-1:], "earliest": newest[:1], "all": newest[-300:]}[coalesce]


@given(
    nows=st.lists(st.integers(0, 100), min_size=1, max_size=20).map(sorted),
    overlap=st.sampled_from(["skip", "buffer_one", "buffer_all", "allow", "cancel"]),
    coalesce=st.sampled_from(["latest", "earliest", "all"]),
    jitter=st.integers(0, 300),
    catch_up=st.integers(1, 600),
    ends=st.lists(st.sampled_from([State.SUCCESS, State.FAILURE, State.STARTED, None]), min_size=1, max_size=5),
)
def test_every_due_instant_is_named_once_whatever_the_policies(
    nows: list[int], overlap: str, coalesce: str, jitter: int, catch_up: int, ends: list[State | None]
) -> None:
    s = standing(overlap=overlap, coalesce=coalesce, jitter_s=jitter, catch_up_s=catch_up, pause_after=4)
    named, started = [], []
    for now in nows:
        states = {id: ends[k % len(ends)] for k, id in enumerate(s.active)}
        d = made(s, START + now * 30_000, states)
        named += [e.at for e in d.entries]
        started += [x.id for x in d.starts]
        assert {x.at for x in d.starts} == {e.at for e in d.entries if e.why in RAN}
        s = d.standing
    assert named == [x.at for x in due(s.schedule, START, s.next - 1)]
    assert len(set(started)) == len(started)
