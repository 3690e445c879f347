"""A redeploy under load: every gateway replica is replaced, and no request is refused or hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from ray_app.launch import CONFIG, ROOT
from tests.ray.conftest import Shop, until
from tests.ray.test_kills import Load

SERVE = str(Path(sys.executable).parent / "serve")


def test_a_redeploy_is_not_noticed(shop: Shop, tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    config["http_options"]["port"], config["grpc_options"]["port"] = shop.house.http_port, shop.house.grpc_port
    gateway = config["applications"][0]["deployments"][0]
    gateway["ray_actor_options"]["num_cpus"] = 0.26  # another actor, so every replica is made anew
    (tmp_path / "lemo.toml").write_text('[logs]\nlevel = "WARNING"\n')
    config["applications"][0]["args"] = {"config": str(tmp_path / "lemo.toml")}  # so that the application is built anew
    changed = tmp_path / "serve_config.yaml"
    changed.write_text(yaml.safe_dump(config))
    load = Load(shop, "redeploy")
    load.start()
    until(lambda: load.answers[200] > 30)
    before = {p.pid for p in shop.pids("Replica:recommender:Gateway")}
    schedulers = {p.pid for p in shop.pids("ray::Scheduler")}
    env = {**os.environ, "RAY_AUTH_MODE": "token", "LEMO_DATA": str(shop.data)}
    line = [SERVE, "deploy", "-a", shop.dashboard, str(changed)]
    done = subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: not before & {p.pid for p in shop.pids("Replica:recommender:Gateway")}, 60)
    ready = load.answers[200] + 60
    until(lambda: load.answers[200] > ready)
    load.enough.set()
    load.join()
    assert set(load.answers) == {200}, (load.answers, load.errors)
    assert not schedulers & {p.pid for p in shop.pids("ray::Scheduler")}  # it would go on with the old settings
