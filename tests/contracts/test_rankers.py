"""The port Ranker, held by every kind: from the registry it comes back as it was, and serving takes it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_app.catalog.expression import TASKS
from ray_app.clock import FixedClock
from ray_app.features.view import NAMES
from ray_app.models.base import Ranker, Scene, predict_many
from ray_app.models.blend import Blend
from ray_app.models.multitask import MultiTask
from ray_app.models.on_device import OnDevice
from ray_app.models.ranker import KINDS
from ray_app.registry.registry import Registry
from ray_app.registry.watch import RANKER, Live
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.training.rankers import FITTERS, Parts, fit, parts
from tests.unit.training.test_contest import DESIGNS, NAMED, NEURAL, drawn, judged

QUICK = replace(DESIGNS, neural=replace(NEURAL, epochs=2))  # what is asked here holds for a ranker that knows little


@pytest.fixture(scope="module")
def found() -> Parts:
    return parts([*drawn(1), *drawn(2)], NAMED)


@pytest.fixture(params=FITTERS, scope="module")
def ranker(request: pytest.FixtureRequest, found: Parts) -> Ranker:
    return fit(request.param, found, "v", QUICK, lambda line: None)


def test_every_kind_that_is_fitted_can_be_served() -> None:
    assert set(FITTERS) == set(KINDS)


def test_a_fit_on_the_same_examples_is_the_same_ranker(ranker: Ranker, found: Parts) -> None:
    again = fit(ranker.kind, found, "v", QUICK, lambda line: None)
    assert all(np.array_equal(a, again.arrays()[k]) for k, a in ranker.arrays().items())


async def test_serving_takes_it_from_the_registry_as_it_was(ranker: Ranker, tmp_path: Path) -> None:
    clock = FixedClock(1_800_000_000_000)
    registry = Registry(MemoryDocuments(clock), Blobs(tmp_path / "blobs"), clock)
    about = {"kind": ranker.kind, "features": list(NAMES)}
    version = await registry.register("t", RANKER, ranker.arrays(), {}, about)
    await registry.promote("t", version)
    served = (await Live(registry).refresh("t")).ranker
    assert served is not None
    assert (served.version, served.kind) == (version.id, ranker.kind)
    for e in judged().examples[:20]:
        assert np.array_equal(served.predict(e.scene), ranker.predict(e.scene))


def test_candidates_and_the_order_of_them_do_not_change_each_other_s_prediction(ranker: Ranker) -> None:
    scene = judged().examples[3].scene
    whole = ranker.predict(scene)
    assert ((whole[:, :2] >= 0) & (whole[:, :2] <= 1)).all()
    back = ranker.predict(Scene(scene.features[::-1], scene.rows[::-1], scene.visitor))[::-1]
    assert back == pytest.approx(whole, rel=1e-4)
    assert ranker.predict(Scene(scene.features[:1], scene.rows[:1], scene.visitor)) == pytest.approx(
        whole[:1], rel=1e-4
    )


def on_cpu(ranker: Ranker) -> Ranker:
    """What a GPU would rank with, on this machine."""
    if isinstance(ranker, Blend):
        return ranker.over(on_cpu)
    return OnDevice(ranker, "cpu", torch.float32) if isinstance(ranker, MultiTask) else ranker


@pytest.mark.parametrize("place", [lambda ranker: ranker, on_cpu], ids=["numpy", "device"])
def test_several_requests_at_once_get_what_each_gets_alone(ranker: Ranker, place: Callable[[Ranker], Ranker]) -> None:
    some, one = [e.scene for e in judged().examples[:20]], place(ranker)
    some[4] = replace(some[4], features=some[4].features[:0], rows=some[4].rows[:0])
    some[5] = replace(some[5], features=some[5].features[:1], rows=some[5].rows[:1])
    some[6] = replace(some[6], visitor=judged(3).examples[1].visitor)
    for found, scene in zip(predict_many(one, some), some, strict=True):
        assert found.shape == (len(scene.rows), len(TASKS))
        assert found == pytest.approx(one.predict(scene), abs=1e-6)
        assert found == pytest.approx(ranker.predict(scene), abs=1e-5)
    assert predict_many(one, []) == []


def test_no_candidates_and_missing_features_are_no_error(ranker: Ranker) -> None:
    scene = judged().examples[0].scene
    assert ranker.predict(Scene(scene.features[:0], scene.rows[:0], scene.visitor)).shape == (0, len(TASKS))
    lost = ranker.predict(Scene(np.full_like(scene.features, np.nan), scene.rows, scene.visitor))
    assert np.isfinite(lost).all()


def test_a_click_is_as_likely_as_it_says(ranker: Ranker) -> None:
    some = judged().examples
    said = sum(float(ranker.predict(e.scene)[:, 0].sum()) for e in some)
    assert said / sum(float(e.taken.sum()) for e in some) == pytest.approx(1, abs=0.15)
    assert len(NAMED) == len(some)
