"""The listwise ranker: numpy as it serves is torch as it was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_app.features.view import NAMES
from ray_app.models.base import Scene
from ray_app.models.listwise import Listwise
from ray_app.recommend.recall import Candidates
from ray_app.training.listwise import Network, fit
from ray_app.training.past import Example
from ray_app.types import Matrix, Scores
from tests.unit.make import visitor


def examples(n: int, seed: int = 1) -> list[Example]:
    """What is taken has more of features 0 and 3 and less of 5; one feature never varies."""
    drawn, made = np.random.default_rng(seed), []
    for user in range(n):
        m = int(drawn.integers(2, 30))
        x = drawn.normal(size=(m, len(NAMES))).astype(np.float32)
        x[:, 7] = 1.0
        taken = np.zeros(m, np.float32)
        taken[np.argmax(2 * x[:, 0] + x[:, 3] - x[:, 5])] = 1.0
        labels = np.stack([taken, 0 * taken, 0 * taken], axis=1)
        made.append(Example(user, x, labels, Candidates(np.arange(m, dtype=np.int32), taken, {}), visitor()))
    return made


def scored(ranker: Listwise, features: Matrix) -> Scores:
    return ranker.logits(Scene(features, np.arange(len(features), dtype=np.int32), visitor()))


def by_torch(ranker: Listwise, features: Matrix) -> Scores:
    """The network that the arrays describe, in torch."""
    a = {k: torch.from_numpy(np.array(v)) for k, v in ranker.arrays().items()}
    x = (torch.from_numpy(features) - a["centre"]) / a["spread"]
    layers = (len(a) - 3) // 2
    for k in range(layers):
        x = torch.nn.functional.linear(x, a[f"weight{k}"].T, a[f"bias{k}"])
        x = torch.relu(x) if k < layers - 1 else x
    return np.asarray(x[:, 0])


@pytest.mark.parametrize("hidden", [(), (16,), (8, 4)])
def test_the_ranker_in_numpy_is_the_one_in_torch(hidden: tuple[int, ...]) -> None:
    ranker = fit(examples(60), "v", Network(hidden, epochs=2))
    features = np.concatenate([e.features for e in examples(20, seed=2)])
    assert np.abs(scored(ranker, features) - by_torch(ranker, features)).max() < 1e-5


def test_a_fit_finds_what_decides_and_is_the_same_each_time() -> None:
    how = Network((), epochs=30, learning_rate=3e-2)
    first, second = fit(examples(1200), "v", how), fit(examples(1200), "v", how)
    for e in examples(5, seed=9):
        assert np.array_equal(scored(first, e.features), scored(second, e.features))
    right = [np.argmax(scored(first, e.features)) == np.argmax(e.taken) for e in examples(100, seed=9)]
    assert np.mean(right) > 0.9


def test_what_never_varied_says_nothing_also_where_it_does() -> None:
    ranker = fit(examples(60), "v", Network(epochs=1))
    features = examples(1, seed=5)[0].features
    other = features.copy()
    other[:, 7] = 1e6
    assert np.array_equal(scored(ranker, features), scored(ranker, other))


def test_there_is_nothing_to_learn_from_when_nothing_was_taken() -> None:
    e = examples(1)[0]
    with pytest.raises(ValueError, match="none of 1 visitors"):
        fit([Example(0, e.features, np.zeros_like(e.labels), e.candidates, visitor())], "v")
