"""The documents are whole: every setting, route, method and error reason stands in them, and every example is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
import typer

from ray_app import config
from ray_app.cli import app
from ray_app.config import Section, Settings
from ray_app.errors import LemoError
from ray_app.operations.mapping import Section as MapSection
from ray_app.recommend.reasons import PLAIN
from ray_app.serving.use import Use
from ray_app.serving.usecases import USES
from tests.shape.tree import ROOT, sources, texts

SETTINGS = (ROOT / "docs" / "settings.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
IMPORT = (ROOT / "docs" / "import.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()


def fields() -> Iterator[tuple[str, str, object]]:
    """(section, field, default) of every setting; the section of a top one is ""."""
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from ((name, f, i.default) for f, i in info.annotation.model_fields.items())
        else:
            yield "", name, info.default


def variable(section: str, field: str) -> str:
    return "LEMO_" + "_".join(part.upper() for part in (section, field) if part)


def shown(default: object) -> str:
    """A default as the document writes it."""
    if default is None:
        return "none"
    if isinstance(default, Mapping):
        default = tuple(f"{name}={value}" for name, value in default.items())
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def rows(text: str) -> dict[str, list[str]]:
    """The tables' rows by their first cell without backticks."""
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")]
    return {c[0].strip("` "): c for c in cells}


def classes(kind: type[LemoError] = LemoError) -> Iterator[type[LemoError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from classes(sub)


def reasons() -> set[str]:
    """Every reason that a class of the house has, also one whose module is not imported here."""
    written = {r for f in sources("ray_app") for r in re.findall(r'reason = .*?"([A-Z_]{4,})"$', f.read_text(), re.M)}
    return {c.reason for c in classes()} | written


@pytest.mark.parametrize(("section", "field", "default"), fields(), ids=lambda v: str(v))
def test_every_setting_is_described(section: str, field: str, default: object) -> None:
    name = variable(section, field)
    found = rows(SETTINGS).get(name)
    assert found, f"docs/settings.md has no row for {name}"
    assert found[1] == (f"`{section}.{field}`" if section else f"`{field}`")
    assert found[2] == shown(default), f"docs/settings.md says that {name} is {found[2]} unless set"


def test_no_setting_is_described_that_is_not_there() -> None:
    known = {variable(s, f) for s, f, _ in fields()} | {"LEMO_CONFIG"}
    assert {name for name in rows(SETTINGS) if name.startswith("LEMO_")} - known == set()


@pytest.mark.parametrize("use", USES, ids=lambda use: use.name)
def test_every_use_case_is_described(use: Use) -> None:
    assert f"`{use.method} {use.path.replace(':path', '')}`" in API
    assert use.rpc is None or re.search(rf"`lemo\.v1\.\w+/{use.rpc}`", API), f"docs/api.md has no method {use.rpc}"
    assert not [q for q in use.query if f"`{q}`" not in API]


@pytest.mark.parametrize("reason", sorted(reasons()))
def test_every_error_reason_is_described(reason: str) -> None:
    assert f"`{reason}`" in API


def test_the_codes_of_the_errors_are_true() -> None:
    table, wrong = rows(API), []
    for one in classes():
        found = table.get(one.reason)
        if found and found[1:3] != [str(one.status), f"`{one.code}`"]:
            wrong.append(f"{one.reason}: {found[1:3]} where {one.status}, {one.code} is true")
    assert not wrong


@pytest.mark.parametrize("code", sorted(r.code for r in PLAIN.values()))
def test_every_plain_reason_of_an_item_is_described(code: str) -> None:
    assert f"`{code}`" in API


@pytest.mark.parametrize("key", MapSection.model_fields)
def test_every_key_of_a_map_is_described(key: str) -> None:
    assert f"`{key}`" in IMPORT


def test_the_example_of_an_environment_names_known_settings() -> None:
    lines = re.findall(r"^(?:# )?(LEMO_\w+)=(.*)$", EXAMPLE, re.M)
    assert lines
    config.load({name: value for name, value in lines if name != "LEMO_CONFIG"})


def commands() -> Iterator[tuple[str, list[str]]]:
    """(document, words behind `lemo`) of every command that stands in code."""
    for file in (f for f in texts() if f.suffix == ".md"):
        found = re.findall(r"(?:`|bin/|^)lemo ([a-z][^`\n#|;)]*)", file.read_text(), re.M)
        yield from ((str(file.relative_to(ROOT)), words.split()) for words in found)


def test_every_command_in_the_documents_is_one_and_knows_its_options() -> None:
    lemo, wrong = typer.main.get_command(app), []
    for file, words in commands():
        found, rest = lemo, list(words)
        while rest and rest[0] in getattr(found, "commands", {}):
            found = found.commands[rest.pop(0)]  # type: ignore[attr-defined]
        known = {o for p in found.params for o in (*p.opts, *p.secondary_opts)}
        told = [w.strip("[]") for w in rest if w.startswith(("-", "[-"))]
        if found is lemo or (set(told) - known and not found.context_settings.get("ignore_unknown_options")):
            wrong.append(f"{file}: lemo {' '.join(words)}")
        elif rest and hasattr(found, "commands") and rest[0].isalpha():
            wrong.append(f"{file}: lemo {' '.join(words)}: {rest[0]} is no command")
    assert not wrong
