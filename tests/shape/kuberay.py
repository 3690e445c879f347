"""KubeRay 1.7's own rules for a RayService, which its schema does not have (controllers/ray/utils/validation.go).

Each rule yields what the controller would refuse. Feature gates are taken as they are by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Tree = dict[str, Any]
NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
GATED = {"networkPolicy", "tlsOptions", "historyServerOptions"}  # alpha: refused while their gate is off
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")


def refusals(service: Tree) -> list[str]:
    """What the controller would say; empty for a document that it accepts."""
    return [f"{rule.__name__.strip('_')}: {what}" for rule in RULES for what in rule(service)]


def cluster(service: Tree) -> Tree:
    found: Tree = service["spec"]["rayClusterConfig"]
    return found


def groups(service: Tree) -> dict[str, Tree]:
    """The head and each worker group by name."""
    c = cluster(service)
    return {"head": c["headGroupSpec"], **{g["groupName"]: g for g in c.get("workerGroupSpecs", [])}}


def workers(service: Tree) -> dict[str, Tree]:
    return {name: g for name, g in groups(service).items() if name != "head"}


def container(group: Tree) -> Tree:
    """The Ray container: the first one."""
    found: Tree = group["template"]["spec"]["containers"][0]
    return found


def variables(group: Tree) -> dict[str, Tree]:
    return {e["name"]: e for e in container(group).get("env", [])}


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _v2(service: Tree) -> bool:
    c = cluster(service)
    chosen = c.get("autoscalerOptions", {}).get("version") == "v2"
    return bool(c.get("enableInTreeAutoscaling")) and chosen


def _names(service: Tree) -> Iterator[str]:
    name = service["metadata"]["name"]
    if len(name) > 47 or not NAME.match(name):
        yield f"{name!r} is no DNS label of at most 47 characters"
    if cluster(service)["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        yield "headService.metadata.name must not be set"


def _containers_and_resources(service: Tree) -> Iterator[str]:
    for name, g in groups(service).items():
        params = g.get("rayStartParams") or {}
        if not g["template"]["spec"].get("containers"):
            yield f"{name} has no container"
        if g.get("resources") and any(params.get(r) for r in RESOURCES):
            yield f"{name}: resources stand in rayStartParams and in resources"
        if "labels" in params:
            yield f"{name}: rayStartParams.labels is not supported"


def _sizes(service: Tree) -> Iterator[str]:
    autoscaled = bool(cluster(service).get("enableInTreeAutoscaling"))
    for name, g in workers(service).items():
        low, high = g.get("minReplicas", 0), g.get("maxReplicas", 2**31 - 1)
        if low < 0 or high < 0 or low > high:
            yield f"{name}: minReplicas {low}, maxReplicas {high}"
        if autoscaled and g.get("suspend"):
            yield f"{name}: a suspended group beside the autoscaler"


def _autoscaler(service: Tree) -> Iterator[str]:
    c, own = cluster(service), "RAY_enable_autoscaler_v2"
    options = c.get("autoscalerOptions", {})
    by_variable = own in variables(c["headGroupSpec"])
    if by_variable and (options.get("version") or not c.get("enableInTreeAutoscaling")):
        yield f"{own} on the head; choose by autoscalerOptions.version alone"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds is negative"
    if any(e["name"] == "KUBERAY_GEN_AUTOSCALER_START_CMD" for e in options.get("env", [])):
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD is KubeRay's own"
    for name, g in groups(service).items():
        if _v2(service) and g["template"]["spec"].get("restartPolicy") not in (None, "Never"):
            yield f"{name}: restartPolicy must be Never or unset with autoscaler v2"
        if not _v2(service) and (g.get("idleTimeoutSeconds") is not None or g.get("priority")):
            yield f"{name}: idleTimeoutSeconds and priority need autoscaler v2"


def _tokens(service: Tree) -> Iterator[str]:
    c = cluster(service)
    auth, version = c.get("authOptions", {}), c.get("rayVersion", "")
    if auth.get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth is refused for a RayService"
    if auth.get("mode") == "token" and (not version or release(version) < (2, 52)):
        yield f"token authentication needs rayVersion of at least 2.52, not {version!r}"


def _gcs(service: Tree) -> Iterator[str]:
    c, notes = cluster(service), service["metadata"].get("annotations") or {}
    head, options = c["headGroupSpec"], c.get("gcsFaultToleranceOptions")
    params, env = head.get("rayStartParams") or {}, variables(head)
    if "redis-username" in params or "REDIS_USERNAME" in env:
        yield "a Redis user name belongs in gcsFaultToleranceOptions.redisUsername"
    if options is None:
        yield from ("RAY_REDIS_ADDRESS without gcsFaultToleranceOptions" for _ in env.keys() & {"RAY_REDIS_ADDRESS"})
        return
    if "redis-password" in params:
        yield "redis-password belongs in gcsFaultToleranceOptions.redisPassword"
    for own in sorted(env.keys() & {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"}):
        yield f"{own} on the head beside gcsFaultToleranceOptions"
    for note in sorted(notes.keys() & {"ray.io/ft-enabled", "ray.io/external-storage-namespace"}):
        yield f"annotation {note} beside gcsFaultToleranceOptions"
    if options.get("backend", "redis") != "redis":
        yield "the rocksdb backend needs a feature gate that is off"
    elif "storage" in options:
        yield "storage belongs to the rocksdb backend"


def _gates(service: Tree) -> Iterator[str]:
    c = cluster(service)
    yield from (f"{key} needs a feature gate that is off" for key in sorted(GATED & c.keys()))
    if c.get("upgradeStrategy"):
        yield "rayClusterConfig.upgradeStrategy must not be set in a RayService"


def _upgrade(service: Tree) -> Iterator[str]:
    spec, c = service["spec"], cluster(service)
    strategy = spec.get("upgradeStrategy", {})
    kind = strategy.get("type", "NewCluster")
    if kind not in UPGRADES:
        yield f"upgradeStrategy.type is {kind!r}; allowed: {', '.join(UPGRADES)}"
    if spec.get("rayClusterDeletionDelaySeconds", 60) < 0:
        yield "rayClusterDeletionDelaySeconds is negative"
    if kind != "NewClusterWithIncrementalUpgrade":
        return
    options = strategy.get("clusterUpgradeOptions", {})
    step, surge = options.get("stepSizePercent", -1), options.get("maxSurgePercent", 100)
    if not c.get("enableInTreeAutoscaling"):
        yield "an incremental upgrade needs the autoscaler"
    if not 0 <= step <= surge <= 100 or options.get("intervalSeconds", 0) <= 0 or not options.get("gatewayClassName"):
        yield f"clusterUpgradeOptions {options}: 0 <= step <= surge <= 100, an interval above 0, a gateway class"


def _ports(service: Tree) -> Iterator[str]:
    """The Service for Serve is made from the head's ports `serve` and `serve-*`; a head that lists none gets 8000."""
    named = {p.get("name", "") for p in container(cluster(service)["headGroupSpec"]).get("ports", [])}
    served = any(n == "serve" or n.startswith("serve-") for n in named)
    if named and not served and "serveService" not in service["spec"]:
        yield "no port of the head is named serve"


def _timeout(service: Tree) -> Iterator[str]:
    wanted = (service["metadata"].get("annotations") or {}).get("ray.io/initializing-timeout", "1")
    if not re.fullmatch(r"(\d+(\.\d+)?(h|m|s))+|[1-9]\d*", str(wanted)):
        yield f"ray.io/initializing-timeout is {wanted!r}; allowed: a Go duration or seconds above 0"


RULES = (
    _names,
    _containers_and_resources,
    _sizes,
    _autoscaler,
    _tokens,
    _gcs,
    _gates,
    _upgrade,
    _ports,
    _timeout,
)
