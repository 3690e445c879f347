"""The multi-task ranker: numpy as it serves is torch as it was trained, and a fit goes on where it was cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ray_app.models.base import Scene
from ray_app.models.multitask import MultiTask, item_buckets
from ray_app.training.columns import from_parquet, to_parquet
from ray_app.training.groups import Groups, grouped, packed, unpacked
from ray_app.training.multitask import Design, State, _fixed, _forward, _inputs, fit, fit_packed
from ray_app.types import Matrix, Visitor

FEATURES, ITEMS = 6, 40
SMALL = Design(hidden=(8,), size=4, item_buckets=256, user_buckets=64, epochs=3, batch=16, learning_rate=1e-2)
DESIGNS = {
    "attention": SMALL, "embeddings": replace(SMALL, attention=False),
    "logistic": replace(SMALL, hidden=(), size=0, attention=False), "deep": replace(SMALL, hidden=(8, 4)),
}  # fmt: skip


def drawn(n: int, seed: int = 1, gaps: bool = True) -> tuple[list[Scene], list[Matrix]]:
    """A visitor likes items of the parity of what he took; feature 0 helps, and feature 2 is missing at times."""
    random, scenes, labels = np.random.default_rng(seed), [], []
    for _ in range(n):
        m, r = int(random.integers(1, 12)), int(random.integers(0, 9))
        x = random.normal(size=(m, FEATURES)).astype(np.float32)
        if gaps:
            x[random.random(m) < 0.3, 2] = np.nan
        likes = random.integers(2)
        rows = random.choice(ITEMS, m, replace=False).astype(np.int32)
        recent = (2 * random.choice(ITEMS // 2, r, replace=False) + likes).astype(np.int32)
        ages, weights = np.sort(random.random(r) * 1e6).astype(np.float32), random.choice([1, 5], r).astype(np.float32)
        hope = 2.0 * (rows % 2 == likes) - 1.5 + x[:, 0]
        clicked = random.random(m) < 1 / (1 + np.exp(-2 * hope))
        bought = clicked & (random.random(m) < 0.4)
        watched = clicked * random.exponential(90, m)
        labels.append(np.stack([clicked, bought, watched], axis=1).astype(np.float32))
        name = f"u:{random.integers(20)}" if random.random() < 0.9 else ""
        scenes.append(Scene(x, rows, Visitor(name, recent, weights, ages, np.zeros(r, np.float32), recent)))
    return scenes, labels


def data(n: int, seed: int = 1, gaps: bool = True) -> Groups:
    return grouped(*drawn(n, seed, gaps))


@pytest.mark.parametrize("design", DESIGNS)
def test_the_ranker_in_numpy_is_the_one_in_torch(design: str) -> None:
    how, learned = DESIGNS[design], data(120)
    arrays = fit(learned, None, how)
    scenes, labels = drawn(40, seed=2)
    strangers = grouped([*scenes, *drawn(1, 3)[0]], [*labels, *drawn(1, 3)[1]])
    p = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    with torch.no_grad():
        raw = _forward(p, _inputs(strangers, _fixed(learned, how)), how, False).numpy()
    for k, scene in enumerate(scenes):
        served = MultiTask("v", arrays)._heads(scene)
        assert served == pytest.approx(raw[k, : len(scene.rows)], abs=1e-5)


def test_candidates_do_not_change_each_other_s_prediction() -> None:
    ranker, (scene, *_) = MultiTask("v", fit(data(60), None, SMALL)), drawn(1, seed=4)[0]
    whole = ranker.predict(scene)
    for k in range(len(scene.rows)):
        alone = Scene(scene.features[k : k + 1], scene.rows[k : k + 1], scene.visitor)
        assert ranker.predict(alone) == pytest.approx(whole[k : k + 1], rel=1e-4)
    assert ranker.predict(Scene(scene.features[:0], scene.rows[:0], scene.visitor)).shape == (0, 3)


def test_a_fit_that_was_cut_goes_on_to_the_bit() -> None:
    states: list[State] = []
    learned, held = data(80), data(20, seed=5)
    whole = fit(learned, held, SMALL, states.append)
    assert [int(s["epoch"]) for s in states] == [1, 2, 3]
    for state in states:
        again = fit(learned, held, SMALL, resume={k: np.array(v) for k, v in state.items()})
        assert again.keys() == whole.keys()
        assert all(np.array_equal(again[k], whole[k]) for k in whole)


def test_a_fit_elsewhere_gets_what_a_fit_here_gets_and_goes_on_from_its_states() -> None:
    """Through the Parquet file that a worker reads; the wider requests of one side only pad those of the other."""
    learned, held, how = data(60), data(20, seed=3), Design(epochs=3, dropout=0.0)
    given = from_parquet(to_parquet(packed(learned, held)))
    again, kept = unpacked(given)
    for one, other in ((learned, again), (held, kept)):
        assert len(one) == len(other)
        assert np.array_equal(one.clicked(), other.clicked())
        assert one.names.tolist() == other.names.tolist()
    told: list[State] = []
    here = fit(learned, held, how)
    there = fit_packed(given, told.append, None, how)
    resumed = fit_packed(given, lambda state: None, told[0], how)
    assert set(here) == set(there)
    for name in here:
        assert np.allclose(here[name], there[name], atol=1e-4), name
        assert np.array_equal(there[name], resumed[name]), name


def test_another_seed_is_another_model() -> None:
    """Or the test above would pass for a fit that does nothing."""
    learned = data(80)
    first, second = fit(learned, None, SMALL), fit(learned, None, replace(SMALL, seed=8))
    assert not np.array_equal(first["head"], second["head"])


def loss(arrays: dict[str, np.ndarray], n: int = 300) -> float:
    scenes, labels = drawn(n, seed=9)
    p = np.concatenate([MultiTask("v", arrays).predict(s)[:, 0] for s in scenes]).astype(np.float64)
    y = np.concatenate(labels)[:, 0]
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


@pytest.mark.long
def test_with_attention_the_history_is_understood_and_without_it_is_not() -> None:
    how = replace(SMALL, size=8, epochs=30, listwise=0.0, unknown=0.1, weight_decay=1e-3, batch=64, learning_rate=2e-2)
    learned, held = data(1500, seed=11), data(200, seed=12)
    arrays = fit(learned, held, how)
    assert loss(arrays) < loss(fit(learned, held, replace(how, attention=False))) - 0.05
    scenes, _ = drawn(300, seed=9)
    right = []
    for s in scenes:
        if len(s.visitor.recent) and len(set((s.rows % 2).tolist())) == 2:
            clicks = MultiTask("v", arrays).predict(Scene(np.zeros_like(s.features), s.rows, s.visitor))[:, 0]
            mine = s.rows % 2 == s.visitor.recent[0] % 2
            right.append(clicks[mine].mean() > clicks[~mine].mean())
    assert np.mean(right) > 0.9


@pytest.mark.long
def test_every_task_is_right_on_average() -> None:
    arrays = fit(data(800, seed=6), data(100, seed=7), replace(SMALL, epochs=20, listwise=0.0))
    scenes, labels = drawn(600, seed=8)
    found = np.concatenate([MultiTask("v", arrays).predict(s) for s in scenes]).astype(np.float64)
    clicked, bought, watched = np.concatenate(labels).T
    assert found[:, 0].sum() / clicked.sum() == pytest.approx(1, abs=0.1)
    assert (found[:, 0] * found[:, 1]).sum() / bought.sum() == pytest.approx(1, abs=0.15)
    assert found[:, 2].sum() / watched.sum() == pytest.approx(1, abs=0.2)


def test_a_task_that_never_happened_is_not_learned_and_is_0() -> None:
    scenes, labels = drawn(60)
    for one in labels:
        one[:, 1:] = 0
    found = MultiTask("v", fit(grouped(scenes, labels), None, SMALL)).predict(scenes[0])
    assert (found[:, 0] > 0).all()
    assert not found[:, 1:].any()


def test_what_is_missing_has_numbers_also_where_it_never_was_before() -> None:
    for gaps in (True, False):
        ranker = MultiTask("v", fit(data(60, gaps=gaps), None, SMALL))
        scene = drawn(1, seed=3)[0][0]
        lost = Scene(np.full_like(scene.features, np.nan), scene.rows, scene.visitor)
        assert np.isfinite(ranker.predict(lost)).all()
    usual = MultiTask("v", fit(data(60, gaps=False), None, SMALL))
    mean = Scene(np.broadcast_to(usual.arrays()["centre"], scene.features.shape), scene.rows, scene.visitor)
    assert usual.predict(lost) == pytest.approx(usual.predict(mean), rel=1e-5)


def test_items_and_visitors_that_nobody_knew_are_one_stranger() -> None:
    ranker = MultiTask("v", fit(data(60), None, SMALL))
    known = ranker.arrays()["item_known"]
    strange = [r for r in range(ITEMS, 4000) if not known[item_buckets(np.array([r]), 256)[0]]][:2]
    assert len(strange) == 2
    scene = drawn(1, seed=3)[0][0]
    first, second = (
        ranker.predict(Scene(scene.features[:1], np.array([r], np.int32), replace(scene.visitor, name=name)))
        for r, name in zip(strange, ("s:never", ""), strict=True)
    )
    assert np.array_equal(first, second) or ranker.arrays()["user_known"].all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_there_is_nothing_to_learn_where_all_are_alike(value: float) -> None:
    scenes, labels = drawn(9)
    with pytest.raises(ValueError, match="nothing to learn"):
        fit(grouped(scenes, [np.full_like(one, value) for one in labels]), None, SMALL)
    with pytest.raises(ValueError, match="of 0 candidates"):
        fit(grouped([], []), None, SMALL)


@pytest.mark.parametrize(("items", "buckets"), [(40, 256), (3600, 1 << 14), (10_000, 1 << 14), (100_000, 1 << 17)])
def test_items_are_spread_over_the_buckets(items: int, buckets: int) -> None:
    at = item_buckets(np.arange(items), buckets)
    assert at.min() >= 1
    assert at.max() < buckets
    assert len(set(at.tolist())) > 0.65 * items
