"""cluster.yaml: what the API server, KubeRay's controller and Serve would refuse, and what this house asks of it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from ray_app import config
from ray_app.launch import VARIABLES
from tests.shape import crd
from tests.shape.kuberay import Tree, cluster, container, groups, refusals, variables, workers
from tests.shape.test_docs import fields, variable
from tests.shape.test_serve_config import unknown
from tests.shape.tree import ROOT

DOCUMENTS: list[Tree] = list(yaml.safe_load_all((ROOT / "cluster.yaml").read_text()))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DRAINING = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
OLD_CPU, OLD_MEMORY_GI = 4.5, 4.5  # the old HTTP, gRPC, worker and consumer together

needs_crds = pytest.mark.skipif(not crd.present(), reason="the definitions lie in ../shared, which is absent here")


def of_kind(kind: str) -> dict[str, Tree]:
    return {d["metadata"]["name"]: d for d in DOCUMENTS if d["kind"] == kind}


SERVICE = of_kind("RayService")["lemo"]
SERVE: Tree = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
HEAD, WORKERS = groups(SERVICE)["head"], workers(SERVICE)
PORTS = {SERVE["http_options"]["port"], SERVE["grpc_options"]["port"]}
Spoil = Callable[[Tree], Any]


def spoilt(spoil: Spoil) -> Tree:
    other: Tree = json.loads(json.dumps(SERVICE))  # aliases of the YAML become copies, so that one place is spoilt
    spoil(other)
    return other


@needs_crds
def test_the_api_server_would_take_the_ray_service() -> None:
    assert crd.problems(SERVICE, crd.schema("rayservices")) == []


@needs_crds
def test_the_api_server_would_take_the_services_and_the_network_policy() -> None:
    """KubeRay's definition holds those of a Service and of a network policy's rules."""
    spec = crd.schema("rayservices")["properties"]["spec"]["properties"]
    assert [p for s in of_kind("Service").values() for p in crd.problems(s, spec["serveService"])] == []
    rules = spec["rayClusterConfig"]["properties"]["networkPolicy"]["properties"]["head"]["properties"]["ingressRules"]
    assert crd.problems(of_kind("NetworkPolicy")["lemo"]["spec"]["ingress"], rules) == []


BAD_KEYS: dict[str, Spoil] = {
    "serveConfig": lambda s: s["spec"].update(serveConfig=""),
    "serveConfigV2": lambda s: s["spec"].update(serveConfigV2={"applications": []}),
    "val": lambda s: container(groups(s)["cpu"])["env"].append({"name": "A", "val": "1"}),
    "containerPort": lambda s: container(groups(s)["gpu"])["ports"][0].update(containerPort="10071"),
    "num-cpus": lambda s: groups(s)["head"]["rayStartParams"].update({"num-cpus": 0}),
    "template": lambda s: groups(s)["cpu"].pop("template"),
    "minReplica": lambda s: groups(s)["cpu"].update(minReplica=1),
    "mode": lambda s: cluster(s)["authOptions"].update(mode="password"),
    "version": lambda s: cluster(s)["autoscalerOptions"].update(version=2),
    "memory": lambda s: container(groups(s)["cpu"])["resources"]["limits"].update(memory="5 GB"),
}


@needs_crds
@pytest.mark.parametrize("key", BAD_KEYS)
def test_the_schema_refuses_a_key_that_is_unknown_missing_or_of_a_wrong_type(key: str) -> None:
    found = crd.problems(spoilt(BAD_KEYS[key]), crd.schema("rayservices"))
    assert [p for p in found if key in p]


@needs_crds
def test_what_the_server_fills_in_may_be_left_out() -> None:
    short = spoilt(lambda s: [groups(s)["cpu"].pop(k) for k in ("replicas", "minReplicas", "maxReplicas")])
    assert crd.problems(short, crd.schema("rayservices")) == []


def test_the_controller_would_take_it() -> None:
    assert refusals(SERVICE) == []


REFUSED: dict[str, Spoil] = {
    "a name of 48 letters": lambda s: s["metadata"].update(name="l" * 48),
    "a name that begins with a digit": lambda s: s["metadata"].update(name="1emo"),
    "resources twice": lambda s: groups(s)["cpu"].update(resources={"CPU": "2"}),
    "labels for ray start": lambda s: groups(s)["gpu"]["rayStartParams"].update(labels="a=b"),
    "fewer at most than at least": lambda s: groups(s)["cpu"].update(maxReplicas=1),
    "a suspended group": lambda s: groups(s)["gpu"].update(suspend=True),
    "restarts with autoscaler v2": lambda s: groups(s)["cpu"]["template"]["spec"].update(restartPolicy="Always"),
    "the autoscaler chosen twice": lambda s: container(groups(s)["head"])["env"].append(
        {"name": "RAY_enable_autoscaler_v2", "value": "1"}
    ),
    "a group's idle time without v2": lambda s: (
        cluster(s)["autoscalerOptions"].update(version="v1"),
        groups(s)["cpu"].update(idleTimeoutSeconds=60),
    ),
    "tokens on an old Ray": lambda s: cluster(s).update(rayVersion="2.51.0"),
    "tokens without a version": lambda s: cluster(s).pop("rayVersion"),
    "Kubernetes' tokens": lambda s: cluster(s)["authOptions"].update(enableK8sTokenAuth=True),
    "a Redis password for ray start": lambda s: groups(s)["head"]["rayStartParams"].update({"redis-password": "x"}),
    "a Redis password in a variable": lambda s: container(groups(s)["head"])["env"].append({"name": "REDIS_PASSWORD"}),
    "a Redis address in a variable": lambda s: container(groups(s)["head"])["env"].append(
        {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}
    ),
    "a Redis user for ray start": lambda s: groups(s)["head"]["rayStartParams"].update({"redis-username": "x"}),
    "fault tolerance by annotation": lambda s: s["metadata"].update(annotations={"ray.io/ft-enabled": "true"}),
    "the rocksdb backend": lambda s: cluster(s)["gcsFaultToleranceOptions"].update(backend="rocksdb"),
    "a gated network policy": lambda s: cluster(s).update(networkPolicy={"mode": "DenyAll"}),
    "gated TLS": lambda s: cluster(s).update(tlsOptions={"enabled": True}),
    "an upgrade by no name": lambda s: s["spec"]["upgradeStrategy"].update(type="Rolling"),
    "an incremental upgrade without options": lambda s: s["spec"]["upgradeStrategy"].update(
        type="NewClusterWithIncrementalUpgrade"
    ),
    "no port named serve": lambda s: (
        s["spec"].pop("serveService"),
        container(groups(s)["head"])["ports"][3].update(name="http"),
    ),
    "a timeout that is no duration": lambda s: s["metadata"].update(
        annotations={"ray.io/initializing-timeout": "soon"}
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_controllers_rules_refuse(what: str) -> None:
    assert len(refusals(spoilt(REFUSED[what]))) == 1


def test_serve_knows_every_key_of_its_configuration() -> None:
    assert list(unknown(SERVE, ServeDeploySchema)) == []
    ServeDeploySchema.model_validate(SERVE)


def test_serve_is_configured_as_on_one_machine_in_production() -> None:
    assert yaml.safe_load((ROOT / "deploy" / "serve_config.production.yaml").read_text()) == SERVE


def test_the_head_gets_no_replica_and_no_traffic() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert SERVICE["spec"]["excludeHeadPodFromServeSvc"] is True
    free = [
        d["name"] for a in SERVE["applications"] for d in a["deployments"] if not d["ray_actor_options"]["num_cpus"]
    ]
    assert not free, "a replica that asks for no CPU may land on the head"


def test_the_smallest_cluster_holds_every_replica_and_the_largest_the_most() -> None:
    wanted = [(d["ray_actor_options"]["num_cpus"], d) for a in SERVE["applications"] for d in a["deployments"]]
    for end, size in (("min_replicas", "minReplicas"), ("max_replicas", "maxReplicas")):
        asked = sum(c * d.get("num_replicas", d.get("autoscaling_config", {}).get(end)) for c, d in wanted)
        group = WORKERS["cpu"]
        assert asked <= int(group["rayStartParams"]["num-cpus"]) * group[size] - 1, "no CPU is left for a job"


def test_every_node_has_the_same_variables_and_those_that_a_start_needs() -> None:
    for name, group in groups(SERVICE).items():
        assert container(group)["env"] == container(HEAD)["env"], name
    found = {n: e.get("value") for n, e in variables(HEAD).items()}
    assert {n: found.get(n) for n in VARIABLES if n != DRAINING} == {
        n: v for n, v in VARIABLES.items() if n != DRAINING
    }
    assert 0 < float(found[DRAINING] or 0) < 30


def test_every_variable_of_lemo_is_a_setting_and_every_store_is_served() -> None:
    named = {n for n in variables(HEAD) if n.startswith("LEMO_")}
    known = {variable(s, f) for s, f, _ in fields()} | {"LEMO_CONFIG"}
    assert named <= known
    urls = {variable(s, f) for s, f, _ in fields() if s in ("stores", "events") and f.endswith("_url")}
    assert urls <= named, "a store without a URL would be an embedded one, which serves one node"


def test_secrets_are_named_never_written() -> None:
    for name, entry in variables(HEAD).items():
        if name.endswith(("_URL", "_KEY", "_KEY_ID")):
            assert entry["valueFrom"]["secretKeyRef"]["key"] == name
            assert entry["valueFrom"]["secretKeyRef"]["name"] == "lemo-stores"
    assert not re.search(r"://[^\s/]*:[^\s/]*@", (ROOT / "cluster.yaml").read_text())
    assert not of_kind("Secret")
    assert cluster(SERVICE)["authOptions"] == {"mode": "token", "secretName": "lemo-ray"}


def test_the_settings_of_the_config_map_are_settings(tmp_path: Any) -> None:
    mount = next(m for m in container(HEAD)["volumeMounts"] if m["name"] == "settings")["mountPath"]
    (name,) = of_kind("ConfigMap")["lemo-settings"]["data"]
    assert variables(HEAD)["LEMO_CONFIG"]["value"] == f"{mount}/{name}"
    (tmp_path / name).write_text(of_kind("ConfigMap")["lemo-settings"]["data"][name])
    config.load({}, tmp_path / name)


@pytest.mark.parametrize("name", groups(SERVICE))
def test_no_pod_runs_as_root_or_may_become_it(name: str) -> None:
    spec = groups(SERVICE)[name]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    for one in spec["containers"]:
        assert one["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_one_image_of_this_version_and_the_ray_that_is_pinned() -> None:
    images = {c["image"] for g in groups(SERVICE).values() for c in g["template"]["spec"]["containers"]}
    assert images == {f"lemo-service-recommender:{PROJECT['version']}"}
    assert f"ray[serve,data,train]=={cluster(SERVICE)['rayVersion']}" in PROJECT["dependencies"]


def test_the_sizes_start_at_the_old_services_totals() -> None:
    group, asked = WORKERS["cpu"], container(WORKERS["cpu"])["resources"]["requests"]
    assert group["replicas"] * cpu(asked["cpu"]) >= OLD_CPU
    assert group["replicas"] * gibi(asked["memory"]) >= OLD_MEMORY_GI
    for one in groups(SERVICE).values():
        resources = container(one)["resources"]
        logical = int(one["rayStartParams"]["num-cpus"])
        assert logical <= cpu(resources["requests"]["cpu"])
        assert cpu(resources["requests"]["cpu"]) <= cpu(resources["limits"]["cpu"])
        assert gibi(resources["requests"]["memory"]) <= gibi(resources["limits"]["memory"])


def cpu(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def gibi(quantity: str) -> float:
    return float(quantity[:-2]) / {"Gi": 1, "Mi": 1024}[quantity[-2:]]


def test_the_gpu_group_costs_nothing_until_it_is_asked_for() -> None:
    group = WORKERS["gpu"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert group["maxReplicas"] > 0
    assert container(group)["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("name", groups(SERVICE))
def test_every_node_is_probed_by_kubernetes_itself(name: str) -> None:
    """Without probes here KubeRay adds its own, which call wget; the image has none."""
    one = container(groups(SERVICE)[name])
    assert one["livenessProbe"]["httpGet"] == {"path": "/api/healthz", "port": 52365}
    door = {"path": "/-/healthz", "port": SERVE["http_options"]["port"]}
    assert one["readinessProbe"]["httpGet"] == (one["livenessProbe"]["httpGet"] if name == "head" else door)


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_drained_before_it_is_ended(name: str) -> None:
    spec = WORKERS[name]["template"]["spec"]
    line = container(WORKERS[name])["lifecycle"]["preStop"]["exec"]["command"][-1]
    deadline, waited = (int(re.findall(p, line)[0]) for p in (r"--deadline-remaining-seconds (\d+)", r"sleep (\d+)"))
    slowest = max(d.get("graceful_shutdown_timeout_s", 20) for a in SERVE["applications"] for d in a["deployments"])
    drained = float(variables(HEAD)[DRAINING]["value"])
    assert slowest + drained < deadline <= waited < spec["terminationGracePeriodSeconds"]


def test_the_services_keep_the_old_names_and_ports() -> None:
    http, grpc = SERVICE["spec"]["serveService"], of_kind("Service")["lemo-service-recommender-grpc"]
    assert http["metadata"]["name"] == "lemo-service-recommender-http"
    assert http["spec"]["type"] == "NodePort"
    assert http["spec"]["ports"] == [{"name": "serve", "port": 10071, "targetPort": 10071, "nodePort": 30801}]
    assert (grpc["spec"]["type"], grpc["spec"]["ports"][0]["port"]) == ("ClusterIP", 10072)
    assert (SERVE["http_options"]["port"], SERVE["grpc_options"]["port"]) == (10071, 10072)
    served = {p["name"] for p in container(HEAD)["ports"] if p["name"].startswith("serve")}
    assert served == {"serve"}, "KubeRay would give every such port of the head a NodePort"


def test_every_selector_finds_the_workers_and_every_target_is_a_port_of_theirs() -> None:
    open_ports = {p["containerPort"] for p in container(WORKERS["cpu"])["ports"]}
    selectors = {n: s["spec"]["selector"] for n, s in of_kind("Service").items()}
    selectors["budget"] = of_kind("PodDisruptionBudget")["lemo"]["spec"]["selector"]["matchLabels"]
    selectors["policy"] = of_kind("NetworkPolicy")["lemo"]["spec"]["podSelector"]["matchLabels"]
    for name, wanted in selectors.items():
        for group in WORKERS.values():
            assert wanted.items() <= group["template"]["metadata"]["labels"].items(), name
    assert {p["targetPort"] for s in of_kind("Service").values() for p in s["spec"]["ports"]} <= open_ports
    assert open_ports >= PORTS


def test_the_budget_is_a_number_below_the_smallest_group() -> None:
    spec = of_kind("PodDisruptionBudget")["lemo"]["spec"]
    assert isinstance(spec["minAvailable"], int)
    assert 0 < spec["minAvailable"] < WORKERS["cpu"]["minReplicas"]
    assert "maxUnavailable" not in spec


def test_only_the_two_doors_are_open_to_all() -> None:
    policy = of_kind("NetworkPolicy")["lemo"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert {p["port"] for rule in policy["ingress"] if "from" not in rule for p in rule["ports"]} == PORTS
    inside = [r for r in policy["ingress"] if "ports" not in r]
    assert [r["from"] for r in inside] == [[{"podSelector": policy["podSelector"]}]]
    assert policy["podSelector"]["matchLabels"].items() <= HEAD["template"]["metadata"]["labels"].items()
