"""`lemo check`: whether what the settings name is there, and what will not work without it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
import yaml
from rich.markup import escape
from rich.table import Table

from ray_app import config, launch
from ray_app.cli.progress import console
from ray_app.errors import InvalidSettings

if TYPE_CHECKING:
    from ray_app.operations.check import Dependency, Finding, Report

ServeFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="whose modules must be importable; serve_config.yaml unless set"),
]
LATER = "starts with `lemo up`"
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def check(
    json: Annotated[bool, typer.Option("--json", help="one JSON value")] = False,
    serve_config: ServeFile = None,
) -> None:
    """Ask every store that the settings name, also while nothing runs. Exit status 1 when something fails."""
    from ray_app import wiring

    try:
        settings, served = config.load(), _read(serve_config or launch.CONFIG)
    except InvalidSettings as e:
        if not json:
            raise
        print(orjson.dumps({"ok": False, "error": e.message, **e.metadata}).decode())
        raise typer.Exit(1) from None
    report = asyncio.new_event_loop().run_until_complete(wiring.inspect(settings, served))
    if json:
        print(orjson.dumps(_plain(report), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(report)
    sys.stdout.flush()
    sys.stderr.flush()
    # The threads of a client library may wait for a server that does not answer: the exit does not wait for them.
    os._exit(0 if report.ok else 1)


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise InvalidSettings(f"the Serve file {file} cannot be read: {e}", key="--serve-config") from None


def _plain(report: Report) -> dict[str, Any]:
    return {"ok": report.ok, **asdict(report)}


def _show(report: Report) -> None:
    table = Table("store", "where", "version", "login", "ms")
    for d in report.dependencies:
        trip = "" if d.round_trip_ms is None else f"{d.round_trip_ms:.2f}"
        table.add_row(d.name, escape(d.where), escape(d.version) or _state(d), _login(d), trip)
    console.print(table)
    for f in [*(f for d in report.dependencies for f in _named(d)), *report.modules]:
        _print(f)
    roles = Table("role", "state")
    for role in report.roles:
        state = "\n".join(f"without {name}: {what}" for name, what in role.without.items())
        roles.add_row(role.name, escape(state) or (LATER if role.idle else "has all that it needs"))
    console.print(roles)
    console.print("nothing fails" if report.ok else "something is missing or wrong: see fail above")


def _state(d: Dependency) -> str:
    return LATER if d.idle else "reached" if d.reachable else "not reached"


def _login(d: Dependency) -> str:
    return {True: "accepted", False: "refused", None: "none" if d.reachable else ""}[d.authenticated]


def _named(d: Dependency) -> list[Finding]:
    return [f if f.about.startswith(d.name) else replace(f, about=f"{d.name}: {f.about}") for f in d.findings]


def _print(f: Finding) -> None:
    if f.level == "ok":
        return
    text = f"[{STYLES[f.level]}]{f.level}[/] {escape(f.about)} {escape(f.says)}"
    console.print(f"{text}\n     {escape(f.do)}" if f.do else text, soft_wrap=True)
