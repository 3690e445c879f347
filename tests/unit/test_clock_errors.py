"""Time as an argument, and errors that teach."""

from __future__ import annotations

import inspect

import pytest

from ray_app import errors
from ray_app.clock import FixedClock, SystemClock, new_id
from ray_app.errors import InvalidField, LemoError, Unavailable, UnknownScenario

TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, LemoError)]
GRPC = {400: {"INVALID_ARGUMENT"}, 401: {"UNAUTHENTICATED"}, 403: {"PERMISSION_DENIED"}, 404: {"NOT_FOUND"},
        409: {"ABORTED"}, 413: {"RESOURCE_EXHAUSTED"}, 429: {"RESOURCE_EXHAUSTED"},
        500: {"INTERNAL"}, 503: {"UNAVAILABLE"}}  # fmt: skip


def test_a_fixed_clock_moves_only_by_hand() -> None:
    clock = FixedClock(5_000)
    assert (clock.now(), clock.monotonic(), clock.now()) == (5_000, 5.0, 5_000)
    clock.pass_s(1.5)
    assert (clock.now(), clock.monotonic()) == (6_500, 6.5)


def test_the_system_clock_counts_milliseconds_and_never_back() -> None:
    clock = SystemClock()
    assert 1_700_000_000_000 < clock.now() < 10**14
    assert clock.monotonic() <= clock.monotonic()


def test_ids_are_new_each_time() -> None:
    assert len({new_id() for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("kind", TREE, ids=lambda c: c.__name__)
def test_every_error_has_one_status_on_both_doors_and_a_reason_of_its_own_words(kind: type[LemoError]) -> None:
    assert kind.code in GRPC[kind.status]
    assert kind.reason.replace("_", "").isupper()


def test_reasons_tell_errors_apart() -> None:
    assert len({k.reason for k in TREE}) == len(TREE)


def test_an_invalid_field_says_field_value_and_what_is_allowed() -> None:
    error = InvalidField("n", 0, "1..200")
    assert str(error) == "n is '0'; allowed: 1..200"
    assert error.metadata == {"field": "n", "value": "0", "allowed": "1..200"}


def test_a_long_value_is_cut_and_a_lone_surrogate_can_be_sent() -> None:
    assert InvalidField("f", "x" * 81, "y").metadata["value"] == "x" * 77 + "..."
    assert InvalidField("f", "x" * 80, "y").metadata["value"] == "x" * 80
    assert InvalidField("f", "a\ud800", "y").metadata["value"] == "a\\ud800"


def test_an_unknown_scenario_names_the_known_ones() -> None:
    error = UnknownScenario("hom", "demo", ["home", "related"])
    assert "'hom' is unknown to tenant 'demo'. Known: home, related" in error.message
    assert error.metadata == {"field": "scenario", "value": "hom", "allowed": "home, related"}
    assert len(UnknownScenario("x" * 1000, "demo", []).metadata["value"]) == 80


def test_what_is_away_says_when_to_come_again() -> None:
    error = Unavailable("away", 7, store="log")
    assert (error.retry_after_s, error.metadata) == (7, {"retry_after_s": "7", "store": "log"})
