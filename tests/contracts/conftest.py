"""Several processes that write to one file at once; the task queue, and a slot's hands on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ray_app.tasks.queue import Queue
from tests.unit.tasks.hands import Hands


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


@pytest.fixture
def hands(redis_url: str) -> Iterator[Hands]:
    made = Hands(redis_url)
    yield made
    made.close()


@pytest.fixture
async def queue(hands: Hands) -> AsyncIterator[Queue]:
    yield hands.queue
    await hands.queue._redis.aclose()
