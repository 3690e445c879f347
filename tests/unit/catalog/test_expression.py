"""Scores as expressions: what they compute, what they refuse, and that nothing is ever run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.catalog.expression import FUNCTIONS, TASKS, parse, score
from ray_app.catalog.scenario import HOME, from_body
from ray_app.catalog.scenario_body import parse as parse_scenario
from ray_app.errors import InvalidField

PREDICTED = np.array([[0.3, 0.1, 0.0], [0.2, 0.9, 60.0], [0.0, 0.0, 5.0]], np.float32)
CLICK, CONVERT, WATCH = PREDICTED.T.astype(np.float64)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("click", CLICK),
        ("click * (1 + 2 * convert) + 0.1 * log1p(watch)", CLICK * (1 + 2 * CONVERT) + 0.1 * np.log1p(WATCH)),
        (" -click ** 2 / 4 ", -(CLICK**2) / 4),
        ("max(click, convert) - min(click, 0.25)", np.maximum(CLICK, CONVERT) - np.minimum(CLICK, 0.25)),
        ("sqrt(abs(-watch)) + exp(+click)", np.sqrt(WATCH) + np.exp(CLICK)),
        ("1", np.ones(3)),
    ],
)
def test_a_score_is_what_the_expression_says(expression: str, wanted: np.ndarray) -> None:
    found = score(parse("score", expression), PREDICTED)
    assert found.dtype == np.float32
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("expression", ["log(click - 0.25)", "1 / click", "click ** -999", "9 ** 9 ** 9 ** 9 - click"])
def test_what_is_no_number_is_the_lowest_and_never_nan_nor_infinite(expression: str) -> None:
    assert np.isfinite(score(parse("score", expression), PREDICTED)).all()
    assert score("log(click - 0.25)", PREDICTED).argmin() in (1, 2)


REFUSED = {
    "clicks * 2": "clicks",
    "click * (1 + profit)": "profit",
    "__import__('os').system('true')": "__import__('os').system('true')",
    "click.real": "click.real",
    "log1p(click, 2)": "log1p(click, 2)",
    "log1p(x=click)": "log1p(x=click)",
    "open('x')": "open('x')",
    "click if convert else 0": "click if convert else 0",
    "click + 'a'": "'a'",
    "[click]": "[click]",
    "click[0]": "click[0]",
    "lambda: click": "lambda: click",
    "click > 0.5": "click > 0.5",
    "click @ convert": "click @ convert",
    "click + True": "True",
    "click + 1j": "1j",
    "(click := 1)": "click := 1",
    f"click + {'9' * 400}": "9" * 77,
}


@pytest.mark.parametrize("expression", REFUSED)
def test_a_part_that_is_not_allowed_is_named(expression: str) -> None:
    with pytest.raises(InvalidField) as found:
        parse("score", expression)
    assert found.value.field == "score"
    assert REFUSED[expression] in str(found.value)
    assert all(word in found.value.allowed for word in (*TASKS, *FUNCTIONS))


@pytest.mark.parametrize("value", ["", "  ", "click +", "click click", "(" * 300, "-" * 400 + "1", "1" + "+1" * 249,
                                   "click\x00", "x" * 501, 5, None, ["click"]])  # fmt: skip
def test_what_cannot_be_read_is_refused(value: object) -> None:
    with pytest.raises(InvalidField, match="score"):
        parse("score", value)


@given(st.text(alphabet="clikonvertwah ()+-*/.,0123456789_[]'\"=:", max_size=60))
def test_any_text_is_computed_or_refused(text: str) -> None:
    try:
        found = score(parse("score", text), PREDICTED)
    except InvalidField:
        return
    assert np.isfinite(found).all()
    assert found.shape == (3,)


def test_a_scenario_takes_a_score_and_keeps_it() -> None:
    written = parse_scenario({"score": "click * (1 + convert)"}, HOME, ("hot",))
    assert written.score == "click * (1 + convert)"
    assert from_body(written.public()) == written
    with pytest.raises(InvalidField, match="nonsense"):
        parse_scenario({"score": "click + nonsense"}, HOME, ("hot",))


def test_a_scenario_of_before_has_the_usual_score() -> None:
    body = {k: v for k, v in HOME.public().items() if k != "score"}
    assert from_body(body) == replace(HOME, score="click")
