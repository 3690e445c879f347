"""serve_config.yaml against Serve's own schema, strictly: Serve itself ignores keys that it does not know."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from tests.shape.tree import ROOT, texts

CONFIGS = [f for f in texts() if f.name.startswith("serve_config") and f.suffix == ".yaml"]


def unknown(value: Any, annotation: Any, path: str = "") -> Iterator[str]:
    """Keys that no field of the model has, at every level; open mappings may hold anything."""
    model = next((m for m in models(annotation)), None)
    if isinstance(value, list):
        for i, one in enumerate(value):
            yield from unknown(one, annotation, f"{path}[{i}]")
    elif isinstance(value, dict) and model is not None:
        for key, inner in value.items():
            at = f"{path}.{key}".lstrip(".")
            if key not in model.model_fields:
                yield at
            else:
                yield from unknown(inner, model.model_fields[key].annotation, at)


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.name)
def test_every_key_is_known_and_every_value_is_allowed(file: Any) -> None:
    tree = yaml.safe_load(file.read_text())
    assert list(unknown(tree, ServeDeploySchema)) == []
    ServeDeploySchema.model_validate(tree)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.name)
def test_one_application_and_importable_names(file: Any) -> None:
    from importlib import import_module

    tree = yaml.safe_load(file.read_text())
    assert [a["name"] for a in tree["applications"]] == ["recommender"]
    names = [a["import_path"].replace(":", ".") for a in tree["applications"]]
    for name in names + tree["grpc_options"]["grpc_servicer_functions"]:
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(import_module(module), attribute)), name


@pytest.mark.parametrize("gpus", [0.0, 0.5, 1.0])
def test_a_replica_of_rank_alone_gets_what_the_settings_give_it_of_a_gpu(gpus: float) -> None:
    """And is stopped before its successor starts, since there may be no second one."""
    from ray_app.serving.deployments import stages

    async def nothing() -> Any:
        raise AssertionError("nothing is opened before it is deployed")

    found = {name: made._bound_deployment for name, made in stages(nothing, gpus).items()}
    asked = {name: d.ray_actor_options.get("num_gpus", 0) for name, d in found.items()}
    assert asked == {"recall": 0, "rank": gpus, "rerank": 0}
    assert {name: d._deployment_config.max_surge_percent for name, d in found.items()} == {
        "recall": 100, "rank": 0 if gpus else 100, "rerank": 100,
    }  # fmt: skip


def test_a_whole_cpu_of_two_is_left_for_jobs() -> None:
    tree = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    asked = [d["ray_actor_options"]["num_cpus"] * d["num_replicas"] for d in tree["applications"][0]["deployments"]]
    assert sum(asked) <= 1


def test_the_lint_finds_a_key_that_serve_would_ignore() -> None:
    tree = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    for spoil in (
        lambda t: t.update(http_option={}),
        lambda t: t["grpc_options"].update(prot=1),
        lambda t: t["applications"][0]["deployments"][0].update(max_ongoing_request=3),
        lambda t: t["applications"][0]["deployments"][1].update(autoscaling_config={"min_replica": 2}),
    ):
        spoilt = copy.deepcopy(tree)
        spoil(spoilt)
        assert len(list(unknown(spoilt, ServeDeploySchema))) == 1
