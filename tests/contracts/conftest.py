"""Several processes that write to one file at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def _run_at_once(source: str, file: Path, writers: int) -> None:
    """`source` in several processes, each with `file` and its number. They print a line when they could begin, and
    begin when they read one. Fails when one of them fails."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen([sys.executable, "-c", source, str(file), str(n)], **pipes) for n in range(writers)]  # type: ignore[call-overload]
    for one in several:
        one.stdout.readline()
    for one in several:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in several:
        one.communicate(timeout=60)
    assert [one.returncode for one in several] == [0] * writers


@pytest.fixture
def run_at_once() -> Callable[[str, Path, int], None]:
    return _run_at_once
