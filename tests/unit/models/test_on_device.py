"""The multi-task ranker in torch beside itself in numpy. The device here is the CPU: what is asked of a GPU is the same
code, but for the one that is compiled for it."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ray_app.models import on_device
from ray_app.models.base import Batched, Scene
from ray_app.models.blend import Blend
from ray_app.models.multitask import MOST_RECENT, MultiTask
from ray_app.models.on_device import MOST_APART, WARM_UP, OnDevice, forward, moved, pack, to_gpu, warm_up
from ray_app.models.popularity import MERGED, WEEK, Popularity
from ray_app.models.ranker import check
from ray_app.training.multitask import fit
from ray_app.types import Visitor
from tests.unit.training.test_multitask import DESIGNS, FEATURES, data, drawn


@pytest.fixture(scope="module", params=DESIGNS)
def host(request: pytest.FixtureRequest) -> MultiTask:
    ranker = MultiTask("v", fit(data(120), None, DESIGNS[request.param]))
    ranker.calibration = np.array([0.8, -0.3], np.float32)
    return ranker


def scenes() -> list[Scene]:
    """Of visitors with and without a history, one longer than is looked at, an unknown item, and no candidates."""
    found, _ = drawn(20, seed=2)
    long = np.arange(MOST_RECENT + 9, dtype=np.int32)
    ones = np.ones(len(long), np.float32)
    strange = np.full(len(found[3].rows), 1 << 30, np.int32)
    found[3] = Scene(found[3].features, strange, Visitor("u:5", long, 3 * ones, 900 * ones, ones, long))
    found[7] = replace(found[7], features=found[7].features[:0], rows=found[7].rows[:0])
    return found


def twin(host: MultiTask, dtype: torch.dtype = torch.float32) -> OnDevice:
    return OnDevice(host, "cpu", dtype)


def test_in_one_pass_each_request_gets_what_numpy_says(host: MultiTask) -> None:
    asked = scenes()
    found = twin(host).predict_many(asked)
    assert [one.shape for one in found] == [(len(s.rows), 3) for s in asked]
    for one, scene in zip(found, asked, strict=True):
        assert one.dtype == np.float32
        assert one[:, :2] == pytest.approx(host.predict(scene)[:, :2], abs=1e-5)
        assert one[:, 2] == pytest.approx(host.predict(scene)[:, 2], rel=1e-4)


def test_a_request_is_not_changed_by_those_beside_it(host: MultiTask) -> None:
    asked, one = scenes(), twin(host)
    for together, scene in zip(one.predict_many(asked), asked, strict=True):
        assert together == pytest.approx(one.predict(scene), rel=1e-5, abs=1e-6)
    assert one.predict_many([asked[7], asked[7]])[1].shape == (0, 3)


def test_half_precision_moves_a_probability_by_less_than_is_allowed(host: MultiTask) -> None:
    """And by something, or nothing would be in half precision."""
    asked = scenes() + drawn(200, seed=5)[0]
    found = np.concatenate(twin(host, torch.bfloat16).predict_many(asked))
    apart = np.abs(found - np.concatenate([host.predict(s) for s in asked]))[:, :2].max()
    assert apart < MOST_APART
    assert (apart > 1e-5) == (host.kind != "logistic")  # which is heads alone, and these stay in float32


def test_it_passes_the_check_of_what_serves_and_is_saved_as_its_host(host: MultiTask) -> None:
    one = twin(host)
    check(one, FEATURES)
    assert isinstance(one, Batched)
    assert not isinstance(host, Batched)  # in numpy several at once are no faster than one after another
    assert (one.version, one.kind, one.arrays().keys()) == (host.version, host.kind, host.arrays().keys())


def test_the_pass_is_one_graph_for_any_number_of_requests_and_for_the_next_version(host: MultiTask) -> None:
    """As it is compiled for a GPU, but for the code that is made of the graph."""
    torch._dynamo.reset()
    made: list[int] = []

    def note(graph: torch.fx.GraphModule, inputs: object) -> object:
        made.append(len(made))
        return graph.forward

    compiled = torch.compile(forward, dynamic=True, fullgraph=True, backend=note)
    later = MultiTask("w", {k: v * 1 for k, v in host.arrays().items()})
    with torch.inference_mode():
        for ranker in (host, later):
            p = twin(ranker)._p
            for size in (*WARM_UP, (3, 150), (17, 40)):
                asked = warm_up(ranker, *size)
                given = {k: torch.from_numpy(v) for k, v in pack(ranker, asked).items()}
                expected = np.concatenate([ranker._heads(s) for s in asked])
                assert compiled(p, given).numpy() == pytest.approx(expected, abs=1e-4)
                if size == WARM_UP[2]:
                    warm = len(made)
    assert len(made) == warm <= 3  # one by one, one by many, many by many


def test_a_ranker_is_moved_once_it_says_the_same_there(
    host: MultiTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_device, "_compiled", no_compiler)
    with caplog.at_level(logging.WARNING):
        one = moved(host, "cpu", torch.float32)
    assert isinstance(one, OnDevice)
    assert [r.compiled for r in caplog.records] == [True]  # type: ignore[attr-defined]
    monkeypatch.setattr(on_device, "forward", lambda p, b: forward(p, b) + 1.0)
    assert moved(host, "cpu", torch.float32) is host
    for least in (1, 2):  # candidates from which on it says what is no number
        spoilt = partial(_spoilt, least)
        monkeypatch.setattr(on_device, "forward", spoilt)
        assert moved(host, "cpu", torch.float32) is host


def _spoilt(least: int, p: on_device.Named, b: on_device.Named) -> torch.Tensor:
    return forward(p, b) * (float("nan") if len(b["features"]) >= least else 1.0)


def test_of_a_blend_the_network_is_moved(host: MultiTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_device, "_compiled", no_compiler)
    names = [*map(str, range(FEATURES - 2)), MERGED, WEEK]
    blend, asked = Blend("v", Popularity("v", names), host), scenes()
    one = moved(blend, "cpu", torch.float32)
    assert isinstance(one, Blend)
    assert [type(part) for part in one._parts.values()] == [Popularity, OnDevice]
    for found, scene in zip(one.predict_many(asked), asked, strict=True):
        assert found[:, :2] == pytest.approx(blend.predict(scene)[:, :2], abs=1e-5)


def no_compiler() -> object:
    raise RuntimeError("no compiler")


def test_a_device_that_is_lost_costs_no_answer(
    host: MultiTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, asked = twin(host), scenes()

    def lost(p: object, b: object) -> object:
        raise RuntimeError("CUDA error: device lost")

    monkeypatch.setattr(one, "_pass", lost)
    found = one.predict_many(asked)
    assert all(np.array_equal(a, host.predict(s)) for a, s in zip(found, asked, strict=True))
    assert "device lost" in str(caplog.records[0].why)  # type: ignore[attr-defined]


def test_what_is_brought_to_a_gpu_says_nearly_the_same_and_where_none_is_numpy_ranks(
    host: MultiTask, caplog: pytest.LogCaptureFixture
) -> None:
    move = to_gpu()
    if not torch.cuda.is_available():
        assert move is None
        assert "serving.rank_gpus" in caplog.text
        return
    assert move is not None
    one, asked = move(host), scenes()
    assert isinstance(one, OnDevice)
    for found, scene in zip(one.predict_many(asked), asked, strict=True):
        assert found[:, :2] == pytest.approx(host.predict(scene)[:, :2], abs=MOST_APART)
