"""The size rules of the house: small files, small functions, few parameters, little nesting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.shape.tree import ROOT, sources

Function = ast.FunctionDef | ast.AsyncFunctionDef
NESTS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
SOURCES = sources("ray_app", "jobs")


def functions(file: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, Function):
            yield node


def lines(f: Function) -> int:
    """Of the body: the signature and the docstring say what, not how."""
    body = f.body[1:] if ast.get_docstring(f) and len(f.body) > 1 else f.body
    return int(body[-1].end_lineno or 0) - body[0].lineno + 1


def depth(node: ast.AST) -> int:
    """How deep statements are nested; `elif` stands beside its `if`, and a function inside begins anew."""
    deepest = 0
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, Function):
                continue
            chained = isinstance(node, ast.If) and name == "orelse" and isinstance(child, ast.If)
            deepest = max(deepest, depth(child) + (isinstance(child, NESTS) and not chained))
    return deepest


def parameters(f: Function) -> int:
    a = f.args
    names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")])


def test_files_are_small() -> None:
    sizes = {f: len(f.read_text().splitlines()) for f in SOURCES}
    assert not {f.relative_to(ROOT): n for f, n in sizes.items() if n > 400}
    assert median(sizes.values()) <= 150
    assert quantiles(sizes.values(), n=10)[-1] <= 300


def test_scripts_are_small() -> None:
    sizes = {f: len(f.read_text().splitlines()) for f in (ROOT / "ray_app").rglob("*") if f.suffix in (".lua", ".sql")}
    assert len(sizes) > 5
    assert not {f.relative_to(ROOT): n for f, n in sizes.items() if n > 400}


def test_functions_are_small() -> None:
    sizes = [lines(f) for file in SOURCES for f in functions(file)]
    assert median(sizes) <= 8
    assert quantiles(sizes, n=10)[-1] <= 25


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_function_is_long_wide_or_deep(file: Path) -> None:
    found = [
        f"{f.name} in line {f.lineno}: {lines(f)} lines, {parameters(f)} parameters, nested {depth(f)} deep"
        for f in functions(file)
        if lines(f) > 60 or parameters(f) > 6 or depth(f) > 3
    ]
    assert not found


@pytest.mark.parametrize("file", sources("tests", "bench"), ids=lambda f: str(f.relative_to(ROOT)))
def test_tests_and_benches_are_no_heaps(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400
