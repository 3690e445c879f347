"""The rules of the house: the map is true, Ray stays in its files, nothing names a machine or a registry."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray_app
from tests.shape.tree import ROOT, sources, texts

RAY_FILES = {"cluster.py", "actors.py", "deployments.py", "distributed.py"}
MOCKS = ("fakeredis", "mongomock", "montydb", "nx-27017", "moto-mock", "pytest-mock", "fakeetcd")
README = (ROOT / "README.md").read_text()
MAP = re.search(r"```\n(ray_app/.*?)```", README, re.DOTALL)


def named(text: str) -> set[str]:
    """The first word of each line of a map, without the slash of a folder."""
    return {line.split()[0].rstrip("/") for line in text.splitlines() if line.strip()}


def modules() -> set[str]:
    """Packages and modules at the top of ray_app."""
    top = {f.relative_to(ROOT / "ray_app").parts[0].removesuffix(".py") for f in sources("ray_app")}
    return top - {"__init__"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


def test_the_map_in_the_package_names_every_folder() -> None:
    body = str(ray_app.__doc__).split("\n", 2)[2]
    first, _, rest = body.partition("\n")
    values = set(first.split("  ")[0].split())
    assert values | named(rest) == modules()


def test_the_map_in_the_readme_points_to_what_is_there() -> None:
    assert MAP, "README has no map of ray_app/"
    listed = named(MAP[1])
    assert {p for p in listed if not (ROOT / p).exists()} == set()
    assert {
        p.split("/")[1].removesuffix(".py") for p in listed if p.startswith("ray_app/") and p != "ray_app"
    } == modules()


def test_links_in_the_documents_lead_somewhere() -> None:
    dead = []
    for file in (f for f in texts() if f.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text()):
            if "://" not in target and not (file.parent / target).exists():
                dead.append(f"{file.relative_to(ROOT)}: {target}")
    assert not dead


def test_ray_is_imported_only_by_its_shells() -> None:
    loose = [
        str(f.relative_to(ROOT))
        for f in sources("ray_app")
        if f.name not in RAY_FILES and any(i.split(".")[0] == "ray" for i in imports(f))
    ]
    assert not loose


def test_shells_never_import_the_wiring() -> None:
    shells = [f for f in sources("ray_app") if f.name in RAY_FILES]
    assert shells
    assert not [f for f in shells if "ray_app.wiring" in set(imports(f))]


def test_importing_the_wiring_loads_nothing_heavy() -> None:
    heavy = ("torch", "faiss", "pandas", "ray", "scipy", "trafilatura", "feedparser", "datasketch", "py3langid", "lxml")
    code = f"import sys, ray_app.wiring; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("an absolute path of a machine", r"(?<![\w./])/(work|root|home|Users|mnt)/\w"),
        ("a registry host", r"\b(pypi\.org|pythonhosted\.org|npmjs\.(org|com)|crates\.io|maven\.org|maven\.apache)\b"),
        ("a private host", r"\b(10|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d{1,3}){2,3}\b"),
        ("unfinished work", r"\b(TODO|FIXME|XXX)\b"),
    ],
)
def test_no_text_names(what: str, pattern: str) -> None:
    found = [
        f"{f.relative_to(ROOT)}:{n} {line.strip()[:80]}"
        for f in texts()
        if f != Path(__file__)
        for n, line in enumerate(f.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, what


def test_no_mock_of_a_store_is_used() -> None:
    listed = (ROOT / "constraints.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    assert not [m for m in MOCKS if m in listed]
    names = {m.replace("-", "_") for m in MOCKS} | {"unittest.mock"}
    assert not [str(f.relative_to(ROOT)) for f in sources("tests", "ray_app") if names & set(imports(f))]


def test_no_test_waits_a_fixed_time_or_passes_by_default() -> None:
    bad = re.compile(r"assert True\b|pytest\.mark\.xfail|except Exception:\s*pass")
    assert not [f for f in sources("tests") if f != Path(__file__) and bad.search(f.read_text())]
