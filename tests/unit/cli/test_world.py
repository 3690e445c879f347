"""A command whose stores are away."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_app.cli import app
from ray_app.errors import Unavailable


@pytest.mark.parametrize("line", [["stream", "list"], ["stream", "pause", "hot"], ["dlq", "list", "--topic", "t"]])
def test_a_state_store_that_is_away_is_told_with_what_to_do(line: list[str], tmp_path: Path) -> None:
    env = {"LEMO_DATA": str(tmp_path), "LEMO_STORES_REDIS_URL": "redis://127.0.0.1:1/0"}
    env["LEMO_STORES_CLICKHOUSE_URL"] = "http://127.0.0.1:1"
    done = CliRunner().invoke(app, line, env=env)
    assert isinstance(done.exception, Unavailable)
    assert done.exception.message.endswith("What is wrong: lemo check")
