"""The best rows, marginal relevance, and figures of ranked lists against a second evaluator."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.models.diversity import dpp, mmr
from ray_app.models.evaluate import evaluate
from ray_app.models.top import top
from ray_app.types import Matrix, Scores

EVALUATOR = Path(__file__).parents[4] / "shared" / "tools" / "eval_topn.py"


@given(st.integers(0, 400), st.integers(1, 100), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_best_rows_are_those_of_a_plain_sort_also_among_equals(size: int, n: int, kinds: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    scores, allowed = drawn.integers(-1, kinds, size).astype(np.float64), drawn.random(size) < 0.8
    rows, found = top(scores, n, allowed)
    plain = sorted((r for r in range(len(scores)) if allowed[r] and scores[r] > 0), key=lambda r: (-scores[r], r))[:n]
    assert rows.tolist() == plain
    assert found.tolist() == [scores[r] for r in plain]
    assert (rows.dtype, found.dtype) == (np.int32, np.float32)


def relevance(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_without_diversity_the_order_is_the_relevance_s() -> None:
    assert mmr(relevance(0.2, 0.9, 0.2, 0.5), np.ones((4, 2), np.float32), 3, 0.0).tolist() == [1, 3, 0]


def test_with_diversity_a_twin_comes_after_something_else() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert mmr(relevance(1.0, 0.9, 0.6), vectors, 3, 0.0).tolist() == [0, 1, 2]
    assert mmr(relevance(1.0, 0.9, 0.6), vectors, 3, 0.5).tolist() == [0, 2, 1]


@given(
    st.integers(0, 12).flatmap(
        lambda m: st.tuples(
            st.lists(st.floats(0, 1, width=32), min_size=m, max_size=m),
            st.integers(0, 15),
            st.floats(0.01, 1),
            st.integers(0, 99),
        )
    )
)
def test_each_pick_is_the_best_trade_of_relevance_and_likeness(made: tuple[list[float], int, float, int]) -> None:
    worth, n, diversity, seed = made
    vectors = np.random.default_rng(seed).normal(size=(len(worth), 3)).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    picked = mmr(relevance(*worth), vectors, n, diversity).tolist()
    assert len(picked) == len(set(picked)) == min(n, len(worth))
    for k, one in enumerate(picked):

        def gain(i: int, before: list[int] = picked[:k]) -> float:
            like = max([float(vectors[i] @ vectors[b]) for b in before] + [0.0])
            return (1 - diversity) * worth[i] - diversity * like

        assert gain(one) >= max(gain(i) for i in range(len(worth)) if i not in picked[:k]) - 1e-5  # fmt: skip


def test_figures_worked_out_by_hand() -> None:
    found = evaluate({"a": {"x", "y"}, "b": {"z"}, "nothing": set()}, {"a": ["q", "x", "x"], "c": ["z"]}, 4)
    assert found == pytest.approx({
        "recall@4": 0.25, "precision@4": 0.125, "hit@4": 0.5, "mrr@4": 0.25, "map@4": 0.5 * (0.5 / 2),
        "ndcg@4": 0.5 * (1 / np.log2(3)) / (1 + 1 / np.log2(3)),
    })  # fmt: skip


def test_nobody_wants_anything() -> None:
    assert set(evaluate({"a": set()}, {}, 5).values()) == {0.0}
    assert set(evaluate({}, {"a": ["x"]}, 5).values()) == {0.0}


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_our_figures_are_those_of_the_independent_evaluator(seed: int, k: int) -> None:
    if not EVALUATOR.exists():
        pytest.skip("the independent evaluator lies in ../shared, which is not here")
    drawn = np.random.default_rng(seed)
    wanted = {u: set(drawn.integers(0, 60, drawn.integers(0, 12)).tolist()) for u in range(50)}
    lists = {u: drawn.integers(0, 80, drawn.integers(0, 30)).tolist() for u in range(40)}
    ours = evaluate(
        {str(u): {str(i) for i in w} for u, w in wanted.items()},
        {str(u): [str(i) for i in p] for u, p in lists.items()}, k,
    )  # fmt: skip
    theirs = _evaluator().evaluate({}, {u: sorted(w) for u, w in wanted.items()}, lists, (k,))
    assert ours == pytest.approx({name: theirs[name] for name in ours}, abs=1e-9)
    assert ours[f"recall@{k}"] > 0


def _evaluator() -> Any:
    spec = importlib.util.spec_from_file_location("eval_topn", EVALUATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def greedy_dpp(relevance: Scores, vectors: Matrix, n: int, diversity: float) -> list[int]:
    """By the determinants themselves."""
    alike = (vectors @ vectors.T).astype(np.float64)
    picked: list[int] = []
    while len(picked) < n:
        gains = {}
        for i in set(range(len(relevance))) - set(picked):
            some = [*picked, i]
            volume = np.linalg.slogdet(alike[np.ix_(some, some)])[1]
            gains[i] = (1 - diversity) * float(relevance[some].sum()) + diversity * volume
        picked.append(max(gains, key=lambda i: gains[i]))
    return picked


@pytest.mark.parametrize("diversity", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_dpp_picks_what_its_determinants_say(diversity: float, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    vectors = drawn.normal(size=(25, 12))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    relevance = drawn.random(25).astype(np.float32)
    assert dpp(relevance, vectors, 8, diversity).tolist() == greedy_dpp(relevance, vectors, 8, diversity)


def test_dpp_goes_on_by_relevance_when_nothing_new_is_left_in_the_space() -> None:
    vectors = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    assert dpp(np.array([1, 0.9, 0.8, 0.1], np.float32), vectors, 4, 0.5).tolist() == [0, 3, 1, 2]
