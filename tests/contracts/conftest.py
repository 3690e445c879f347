"""One chDB server for the session: it takes about a second to start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ray_app.stores.embedded import _free, http_up


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = _free(0)
    folder = tmp_path_factory.mktemp("clickhouse")
    line = [sys.executable, "-m", "ray_app.stores.chdb_server", "--path", str(folder / "db"), "--port", str(port)]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not http_up(port):
        assert process.poll() is None, "the chDB server ended at its start"
        assert time.monotonic() < deadline, "the chDB server does not answer"
        time.sleep(0.02)  # a poll of another process, not a race
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()
