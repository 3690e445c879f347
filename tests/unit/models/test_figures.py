"""AUC, GAUC, log loss, calibration and intervals against plain definitions; variety against a second evaluator."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.models.calibration import calibrated, platt, sigmoid
from ray_app.models.evaluate import distance, evaluate, of_each
from ray_app.models.interval import interval, mean
from ray_app.models.probability import Predicted
from ray_app.models.variety import Assortment, variety
from tests.unit.models.test_top_diversity_evaluate import EVALUATOR, _evaluator

lines = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=40)


def shown(made: list[tuple[int, int, bool]], visitors: int = 5) -> Predicted:
    who, p, y = (np.array(column) for column in zip(*made, strict=True))
    return Predicted(p / 4 + 0.1, y.astype(np.float64), who, visitors)


def plain_auc(p: np.ndarray, y: np.ndarray) -> float:
    pairs = [(a > b) + (a == b) / 2 for a, b in product(p[y == 1], p[y == 0])]
    return float(np.mean(pairs)) if pairs else float("nan")


@given(lines, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_auc_is_the_share_of_pairs_in_order_also_of_visitors_drawn_twice(
    made: list[tuple[int, int, bool]], times: list[int]
) -> None:
    found = shown(made)
    repeat = np.array(times)[found.visitors]
    p, y = np.repeat(found.predicted, repeat), np.repeat(found.labels, repeat)
    assert found.auc(np.array(times, float)) == pytest.approx(plain_auc(p, y), nan_ok=True)


@given(lines)
def test_gauc_is_the_mean_of_each_visitor_s_auc_by_lines(made: list[tuple[int, int, bool]]) -> None:
    found = shown(made)
    each = [plain_auc(found.predicted[found.visitors == v], found.labels[found.visitors == v]) for v in range(5)]
    assert found.of_each == pytest.approx(each, nan_ok=True)
    known = [(a, (found.visitors == v).sum()) for v, a in enumerate(each) if not np.isnan(a)]
    wanted = sum(a * n for a, n in known) / sum(n for _, n in known) if known else float("nan")
    assert found.gauc(np.ones(5)) == pytest.approx(wanted, nan_ok=True)


@given(lines)
def test_log_loss_and_calibration_are_what_they_say(made: list[tuple[int, int, bool]]) -> None:
    found = shown(made)
    p, y = found.predicted, found.labels
    assert found.log_loss(np.ones(5)) == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
    assert found.calibration(np.ones(5)) == pytest.approx(p.sum() / y.sum() if y.any() else np.nan, nan_ok=True)


def test_of_nobody_there_are_no_figures() -> None:
    none = Predicted(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), 2)
    assert all(np.isnan(figure(np.ones(2))) for figure in none.figures().values())
    assert all(np.isnan(interval(mean(np.zeros(0)), 0)))


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(1)
    inside = 0
    for k in range(200):
        low, high = interval(mean(drawn.normal(0.3, 1.0, 60)), 60, seed=k)
        inside += low <= 0.3 <= high
    assert 0.89 <= inside / 200 <= 0.99


def test_an_interval_is_the_same_for_a_seed_and_narrows_with_more_visitors() -> None:
    values = np.random.default_rng(2).normal(size=1000)
    assert interval(mean(values), 1000, seed=3) == interval(mean(values), 1000, seed=3)
    few, many = (np.subtract(*interval(mean(values[:n]), n)[::-1]) for n in (50, 1000))
    assert many < few / 2


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.2, -3.0), (4.0, 2.0)])
def test_calibration_finds_the_slope_and_intercept_and_keeps_the_order(slope: float, intercept: float) -> None:
    drawn = np.random.default_rng(0)
    logits = drawn.normal(size=40_000)
    labels = drawn.random(40_000) < sigmoid(slope * logits + intercept)
    found = platt(logits, labels)
    assert found == pytest.approx([slope, intercept], abs=0.12)
    assert calibrated(logits, found).mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert found[0] > 0


@pytest.mark.parametrize(("logits", "labels"), [([], []), ([1.0, 2.0], [0, 0]), ([1.0, 1.0, 1.0], [0, 1, 0]),
                                                ([0.0, 1.0], [1, 0]), ([-9e4, 9e4], [0, 1])])  # fmt: skip
def test_calibration_of_hardly_anything_has_numbers(logits: list[float], labels: list[int]) -> None:
    found = platt(np.array(logits), np.array(labels))
    assert np.isfinite(found).all()
    assert found[0] > 0


@pytest.mark.parametrize("seed", range(4))
def test_variety_is_that_of_the_independent_evaluator(seed: int) -> None:
    if not EVALUATOR.exists():
        pytest.skip("the independent evaluator lies in ../shared, which is not here")
    drawn = np.random.default_rng(seed)
    taken = {u: drawn.integers(0, 150, drawn.integers(0, 20)).tolist() for u in range(60)}
    wanted = {u: set(drawn.integers(0, 150, drawn.integers(0, 6)).tolist()) - set(taken[u]) for u in range(50)}
    lists = {u: drawn.integers(0, 200, drawn.integers(0, 30)).tolist() for u in range(45)}
    text = {u: {str(i) for i in w} for u, w in wanted.items()}
    ours = variety(
        {str(u): [str(i) for i in t] for u, t in taken.items()}, {str(u): w for u, w in text.items()},
        {str(u): [str(i) for i in p] for u, p in lists.items()}, 20,
    )  # fmt: skip
    theirs = _evaluator().evaluate(taken, {u: sorted(w) for u, w in wanted.items()}, lists, (20,))
    assert {k: v for k, v in ours.items() if k in theirs} == pytest.approx(
        {k: theirs[k] for k in ("coverage@20", "gini@20", "popularity_percentile")}, abs=1e-9
    )


def test_novelty_is_the_information_of_what_is_shown() -> None:
    taken = {"a": ["x"], "b": ["x"], "c": ["x", "y"], "d": []}
    assert variety(taken, {"d": {"y"}}, {"d": ["x", "y"]}, 5)["novelty"] == pytest.approx((np.log2(4 / 3) + 2) / 2)


def test_variety_of_some_users_is_that_of_their_lists_alone_and_its_interval_lies_around_it() -> None:
    drawn = np.random.default_rng(0)
    taken = {str(u): [str(i) for i in drawn.integers(0, 40, 5)] for u in range(60)}
    wanted = {u: {str(int(u) % 40)} for u in taken}
    lists = {u: [str(i) for i in drawn.integers(0, 40, 4)] for u in taken}
    found = Assortment(taken, wanted).shown(lists, 4)
    half = np.arange(60) % 2 == 0
    alone = variety(taken, wanted, {u: items for u, items in lists.items() if int(u) % 2 == 0}, 4)
    assert found.coverage(half.astype(float)) == alone["coverage@4"] < found.coverage(np.ones(60))
    assert found.novelty(half.astype(float)) == pytest.approx(alone["novelty"])
    low, high = interval(found.coverage, 60, centred=True)
    assert low < found.coverage(np.ones(60)) < high
    assert interval(found.coverage, 60)[1] < high  # who is drawn twice shows nothing more


def test_the_figures_of_each_user_have_the_mean_of_all() -> None:
    wanted, lists = {"a": {"1", "2"}, "b": {"3"}}, {"a": ["1", "9"], "b": ["8", "3"]}
    each = of_each(list(wanted.values()), list(lists.values()), 2)
    assert {k: v.mean() for k, v in each.items()} == pytest.approx(evaluate(wanted, lists, 2))


def test_distance_is_one_minus_the_mean_cosine_of_the_pairs() -> None:
    v = np.random.default_rng(0).normal(size=(5, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    plain = np.mean([1 - v[i] @ v[j] for i in range(5) for j in range(i)])
    assert distance(v.astype(np.float32)) == pytest.approx(plain, abs=1e-6)
    assert distance(np.array([[1.0, 0.0], [1.0, 0.0]])) == 0
    assert np.isnan(distance(v[:1]))
