"""Flags and counts as every use case reads them."""

from __future__ import annotations

import pytest

from ray_app.errors import InvalidField
from ray_app.serving.fields import parse_count, parse_flag


@pytest.mark.parametrize(
    ("said", "meant"), [(None, False), (False, False), ("false", False), (True, True), ("true", True)]
)
def test_a_flag_may_stand_in_a_query(said: object, meant: bool) -> None:
    assert parse_flag("wait", said) is meant


@pytest.mark.parametrize("said", ["", "1", 1, 0, "yes", []])
def test_nothing_else_is_a_flag(said: object) -> None:
    with pytest.raises(InvalidField, match="true, false"):
        parse_flag("wait", said)


@pytest.mark.parametrize("said", [0, 11, -1, True, 1.0, "1", None, []])
def test_a_count_is_a_whole_number_within_its_limits(said: object) -> None:
    assert (parse_count("n", 1, 10), parse_count("n", 10, 10)) == (1, 10)
    with pytest.raises(InvalidField, match=r"1\.\.10"):
        parse_count("n", said, 10)
