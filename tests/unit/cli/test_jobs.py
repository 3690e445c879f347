"""`lemo job run`: which job is started, and with what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

import pytest
from typer.testing import CliRunner

from ray_app.cli import app
from ray_app.cli.jobs import follow_job
from ray_app.errors import NotFound


def test_a_job_gets_its_tenant_and_the_options_that_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Sequence[str]]] = []

    def follow(name: str, args: Sequence[str]) -> Iterator[str]:
        asked.append((name, args))
        yield "done"

    monkeypatch.setattr(import_module("ray_app.cli.jobs"), "follow_job", follow)
    done = CliRunner().invoke(app, ["job", "run", "dataset", "--name", "daily", "--tenant", "acme"])
    assert (done.exit_code, done.output) == (0, "done\n")
    assert asked == [("dataset", ["--tenant", "acme", "--name", "daily"])]


def test_an_unknown_job_is_told_with_those_that_there_are() -> None:
    known = (
        r"'tidy' is unknown\. Known: compact, dataset, embed, evaluate, federated, precompute, profiles, recall, sim"
    )
    with pytest.raises(NotFound, match=known):
        next(follow_job("tidy", []))
