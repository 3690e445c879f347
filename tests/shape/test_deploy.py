"""deploy/: read as far as it can be without an engine: the image's recipe, the stores, the environment, the unit."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from typing import Any

import pytest
import yaml

from ray_app import config
from ray_app.launch import VARIABLES
from tests.shape.test_docs import fields, shown, variable
from tests.shape.tree import ROOT, files

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
STORES: dict[str, dict[str, Any]] = COMPOSE["services"]
TEMPLATE = (DEPLOY / "production.env.example").read_text()
UNIT = (DEPLOY / "lemo.service").read_text()
SERVE = yaml.safe_load((DEPLOY / "serve_config.production.yaml").read_text())
OURS = {10071, 10072, 8265, 8404, 9101, 52365}  # what Lemo and Ray listen on on the same machine
PINNED = re.compile(r"^[a-z0-9-]+(/[a-z0-9-]+)?:v?(\d+\.\d+|RELEASE\.\d{4}-)[\w.-]*$")


def instructions() -> list[tuple[str, list[str]]]:
    """(instruction, words) of the Dockerfile, with continued lines joined."""
    whole = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    lines = [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]
    return [(name, shlex.split(rest)) for name, rest in lines]


def of(name: str) -> list[list[str]]:
    return [words for found, words in instructions() if found == name]


def test_the_image_is_made_in_stages_from_one_pinned_base() -> None:
    assert PINNED.match(dict(a[0].split("=", 1) for a in of("ARG"))["PYTHON"])
    assert [w[0] for w in of("FROM")] == ["${PYTHON}"] * 3
    stages = {w[2] for w in of("FROM") if len(w) == 3}
    assert {w[0].removeprefix("--from=") for w in of("COPY") if w[0].startswith("--from=")} == stages


def test_whatever_is_copied_is_committed_and_not_ignored() -> None:
    kept = {str(f.relative_to(ROOT)) for f in files()}
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    sources = {s.removeprefix("./") for w in of("COPY") if not w[0].startswith("--from=") for s in w[:-1]}
    for source in sources:
        assert source in kept or any(k.startswith(source + "/") for k in kept), source
    assert allowed == sources


def test_the_image_does_not_run_as_root_and_knows_its_libraries_to_the_digit() -> None:
    last = [name for name, _ in instructions()][::-1].index("FROM")
    user = next(words for name, words in instructions()[-last:] if name == "USER")
    assert all(int(part) > 0 for part in user[0].split(":"))
    installs = [" ".join(w) for w in of("RUN") if "pip install" in " ".join(w)]
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in line for line in installs)
    assert any("proto/build.py" in " ".join(w) for w in of("RUN"))


def test_the_image_starts_the_production_configuration_on_its_ports() -> None:
    (command,) = [line for line in DOCKERFILE.splitlines() if line.startswith("CMD ")]
    assert json.loads(command.removeprefix("CMD "))[:2] == ["serve", "run"]
    assert (ROOT / json.loads(command.removeprefix("CMD "))[2]).exists()
    assert {int(p) for w in of("EXPOSE") for p in w} == {SERVE["http_options"]["port"], SERVE["grpc_options"]["port"]}


def test_production_listens_for_others_and_logs_no_request() -> None:
    assert SERVE["http_options"]["host"] == "0.0.0.0"
    assert SERVE["logging_config"] == {"enable_access_log": False}
    by_name = {d["name"]: d for d in SERVE["applications"][0]["deployments"]}
    one = {
        d["name"] for d in yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"][0]["deployments"]
    }
    assert by_name.keys() == one
    smallest = [
        d["ray_actor_options"]["num_cpus"] * d.get("num_replicas", d.get("autoscaling_config", {}).get("min_replicas"))
        for d in by_name.values()
    ]
    assert sum(smallest) <= 2, "it must start on two processors"


def test_the_stores_are_those_that_production_names() -> None:
    assert STORES.keys() == {"mongodb", "redis", "kafka", "etcd", "minio", "milvus", "clickhouse"}
    wanted = {"mongo:7.0", "redis:7.2", "apache/kafka:3.8", "milvusdb/milvus:v2.4", "clickhouse/clickhouse-server:24.1"}
    images = [image(s) for s in STORES.values()]
    assert {w for w in wanted if any(i.startswith(w) for i in images)} == wanted


def image(service: dict[str, Any]) -> str:
    """The image, or the default of a variable that may name another."""
    return re.sub(r"^\$\{\w+:-(.+)\}$", r"\1", service["image"])


@pytest.mark.parametrize("name", STORES)
def test_a_store_is_pinned_watched_kept_and_closed_to_others(name: str) -> None:
    one = STORES[name]
    assert PINNED.match(image(one)), "pin the version, without a registry host"
    assert one["restart"] == "unless-stopped"
    assert one["healthcheck"].keys() >= {"test", "interval", "timeout", "retries"}
    assert one["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert one["ports"]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", p) for p in one["ports"])
    assert [v.split(":")[0] for v in one["volumes"]] == [name]
    assert name in COMPOSE["volumes"]
    assert set(one.get("depends_on", {})) <= STORES.keys()


def test_no_two_stores_share_a_port_and_none_takes_one_of_ours() -> None:
    taken = [int(p.split(":")[1]) for s in STORES.values() for p in s["ports"]]
    assert len(taken) == len(set(taken))
    assert not OURS & set(taken)


def test_no_password_is_written_and_each_must_be_given() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    entries = re.findall(
        r"^ +\w*PASSWORD: (.+)$|--requirepass\n +- (.+)$|SECRET_ACCESS_KEY: (.+)$|AUTH: (.+)$", text, re.M
    )
    given = ["".join(e) for e in entries]
    assert len(given) >= 6
    assert [g for g in given if not re.fullmatch(r"\$\{\w+_PASSWORD:\?.+\}", g)] == []
    assert set(re.findall(r"\$\{(\w+)", text)) - {"KAFKA_CLUSTER_ID", "ETCD_IMAGE"} <= set(lines())


def test_redis_forgets_nothing_and_clickhouse_is_as_it_was() -> None:
    redis = " ".join(STORES["redis"]["command"])
    assert "--maxmemory-policy noeviction" in redis
    assert "--appendonly yes" in redis
    clickhouse = STORES["clickhouse"]
    assert clickhouse["ulimits"]["nofile"] == {"soft": 262144, "hard": 262144}
    assert [clickhouse["healthcheck"][k] for k in ("interval", "timeout", "retries")] == ["30s", "10s", 3]


def lines(commented: bool = True) -> dict[str, str]:
    """The variables of the template and their values; with those that are shown at their default."""
    mark = "(?:# )?" if commented else ""
    return dict(re.findall(rf"^{mark}([A-Z][A-Z0-9_]+)=(.*)$", TEMPLATE, re.M))


def test_the_template_shows_every_setting_at_its_default() -> None:
    known = {variable(s, f): d for s, f, d in fields()}
    named = {n: v for n, v in lines().items() if n.startswith("LEMO_")}
    assert named.keys() - {"LEMO_CONFIG"} == known.keys()
    at_default = {n: v for n, v in named.items() if n not in lines(commented=False) and n != "LEMO_CONFIG"}
    assert {n: f"`{v}`" for n, v in at_default.items()} == {n: shown(known[n]) for n in at_default}


def test_every_line_of_the_template_says_what_it_is_for() -> None:
    groups = [g.splitlines() for g in TEMPLATE.split("\n\n")[1:]]
    assert groups
    for group in groups:
        assert re.fullmatch(r"# --- .+ ---", group[0]), group[0]
        assert group[1].startswith("# ")
        assert not group[1].startswith("# LEMO_")


def test_the_template_is_settings_that_load_and_serves_every_store() -> None:
    loaded = config.load({n: v for n, v in lines(commented=False).items() if n.startswith("LEMO_")})
    assert loaded.embedded() == []


def test_the_template_gives_ray_what_a_start_needs() -> None:
    given = lines(commented=False)
    assert {n: given.get(n) for n in VARIABLES} == VARIABLES
    assert given["RAY_ADDRESS"] == "local"


def test_the_unit_starts_production_as_nobody_special_and_ends_it_by_an_interrupt() -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT)
    service = unit["Service"]
    command = shlex.split(service["ExecStart"])
    assert [c.rsplit("/", 1)[-1] for c in command[:2]] == ["serve", "run"]
    assert (ROOT / command[2]).exists(), "relative to WorkingDirectory, the checkout"
    assert service["User"] not in ("", "root")
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGINT", "mixed", "always")
    assert int(service["TimeoutStopSec"]) > 35, "`serve run` may take 35 s after an interrupt"
    assert service["EnvironmentFile"].endswith("production.env")


def test_a_file_of_secrets_cannot_be_committed_by_accident() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "production.env" in ignored
