"""What our SQL may use: ClickHouse 24.1 knows it, and a migration may run twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ray_app.stores.migrate import FILE, FOLDER, Migration, migrations
from tests.shape.tree import ROOT

TYPES = {
    "Array", "Bool", "Date", "DateTime", "DateTime64", "FixedString", "Float32", "Float64", "Int8", "Int16", "Int32",
    "Int64", "LowCardinality", "Map", "Nullable", "String", "Tuple", "UInt8", "UInt16", "UInt32", "UInt64",
    "AggregateFunction", "SimpleAggregateFunction",
}  # fmt: skip
ENGINES = {"MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "View", "MaterializedView"}
FUNCTIONS = {
    "any", "argMax", "argMin", "arrayAUC", "arrayEnumerate", "arrayMap", "avg", "cityHash64", "coalesce", "concat",
    "count", "countIf", "dateDiff", "greatest", "groupArray", "if", "ifNull", "indexOf", "JSONExtract",
    "JSONExtractArrayRaw", "JSONExtractFloat", "JSONExtractInt", "JSONExtractString", "JSONHas", "least", "length",
    "max", "maxIf", "min", "minIf", "multiIf", "now64", "quantile", "round", "splitByChar", "sum", "sumIf",
    "toFloat32", "toFloat64", "toInt64", "toString", "toUInt16", "toUInt32", "toUInt64", "toUnixTimestamp64Milli",
    "tuple", "tupleElement", "uniq", "uniqCombined64", "uniqExact",
}  # fmt: skip
WORDS = {"AND", "AS", "BY", "FROM", "IN", "JOIN", "NOT", "ON", "OR", "OVER", "USING", "VALUES", "WHERE", "WITH"}
REPEATABLE = re.compile(
    r"CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS \w+|ALTER TABLE \w+ (ADD COLUMN IF NOT EXISTS|MODIFY TTL) ",
    re.IGNORECASE,
)
SQL = sorted((ROOT / "ray_app").rglob("*.sql"))


def code(file: Path) -> str:
    """Without comments and texts in quotes."""
    return re.sub(r"--[^\n]*|'[^']*'", "", file.read_text())


@pytest.mark.parametrize("file", SQL, ids=lambda f: f.name)
def test_only_what_clickhouse_24_1_knows(file: Path) -> None:
    text = code(file)
    tables = set(re.findall(r"EXISTS (\w+)", text))
    called = set(re.findall(r"\b([A-Za-z_]\w*)\s*\(", text)) - tables
    unknown = {c for c in called if c.upper() not in WORDS} - FUNCTIONS - TYPES - ENGINES
    assert not unknown, f"{file.name}: add these to the list when ClickHouse 24.1 has them: {sorted(unknown)}"
    named = set(re.findall(r"\b([A-Z][a-z]\w*|UInt\d+)\b", text)) - TYPES - ENGINES
    assert not named, f"{file.name}: no type or engine that we use: {sorted(named)}"
    assert not re.search(r"\bSETTINGS\b", text, re.IGNORECASE), f"{file.name}: settings differ between versions"


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [m.number for m in migrations()] == list(range(len(migrations())))
    assert not [f.name for f in FOLDER.iterdir() if not FILE.fullmatch(f.name)]


@pytest.mark.parametrize("migration", migrations(), ids=lambda m: m.name)
def test_every_statement_of_a_migration_may_run_twice(migration: Migration) -> None:
    assert not [s for s in migration.statements if not REPEATABLE.match(s)]


def test_statements_end_where_a_line_ends() -> None:
    """So that a semicolon in a text or a comment never cuts one."""
    loose = {f.name: re.findall(r";(?=[^\n])", f.read_text()) for f in FOLDER.glob("*.sql")}
    assert not {name for name, found in loose.items() if found}
