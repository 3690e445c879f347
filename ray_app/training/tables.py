"""Tables of a dataset (pyarrow): read, filter, write, and what a page says about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from ray_app.errors import InvalidField
from ray_app.stores.base import Where

Table = Any  # of pyarrow, which is imported where it is used
PARTS = 10  # of a column's values, by the build before
LEAST = 1e-4  # share of a part, so that an empty one does not count without end
LABELS = ("clicked", "converted")


def of(columns: Mapping[str, Any]) -> Table:
    """Of equally long columns; {} is a table without any."""
    arrow = _arrow()
    return arrow.table({k: arrow.array(v.tolist() if v.dtype == object else v) for k, v in columns.items()})


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    return _arrow().Table.from_pylist([dict(r) for r in rows])


def read(file: str | IO[bytes]) -> Table:
    import pyarrow.parquet as pq

    return pq.read_table(file)


def write(table: Table, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, file)


def joined(found: Sequence[Table]) -> Table:
    """One below the other; a column that one lacks is empty there."""
    arrow = _arrow()
    return arrow.concat_tables(found, promote_options="permissive") if found else arrow.table({})


def between(table: Table, column: str, since: int, until: int) -> Table:
    return filtered(table, (Where(column, "gte", since), Where(column, "lte", until - 1)))


def filtered(table: Table, filters: Sequence[Where]) -> Table:
    """Rows for which every filter holds. Raises InvalidField for a column that is not there."""
    from pyarrow import compute

    pc: Any = compute
    for f in filters if table.num_rows else ():
        if f.field not in table.column_names:
            raise InvalidField("filters", f.field, f"a column: {', '.join(table.column_names)}")
        column = table[f.field]
        tests: dict[str, Any] = {"eq": pc.equal, "gte": pc.greater_equal, "lte": pc.less_equal}
        table = table.filter(
            pc.is_in(column, _arrow().array(f.values)) if f.op == "in" else tests[f.op](column, f.value)
        )
    return table


def about(table: Table, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """schema, label_rate, columns (what each number holds), and drift against the page `before`: the population
    stability index of each number (above 0.2: another population), what came and what went of the schema."""
    schema = {f.name: str(f.type) for f in table.schema}
    found = {f: _numbers(table[f]) for f in table.column_names if _is_number(table[f].type)}
    page = {
        "schema": schema,
        "label_rate": {n: float(np.mean(v > 0)) for n, v in found.items() if n in LABELS and len(v)},
        "types": _types(table),
        "columns": {n: _summary(v) for n, v in found.items() if len(v)},
    }
    return {**page, "drift": _drift(found, schema, before) if before else {}}


def _types(table: Table) -> dict[str, float]:
    """The share of each type of behaviour."""
    if "type" not in table.column_names or not table.num_rows:
        return {}
    names, counts = np.unique(np.array(table["type"].to_pylist(), np.str_), return_counts=True)
    return {str(n): float(c) / table.num_rows for n, c in zip(names, counts, strict=True)}


def _summary(values: Any) -> dict[str, Any]:
    return {"mean": float(values.mean()), "edges": np.quantile(values, np.linspace(0, 1, PARTS + 1)).tolist()}


def _drift(found: Mapping[str, Any], schema: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    came = [n for n, t in schema.items() if before["schema"].get(n) != t]
    went = [n for n in before["schema"] if n not in schema]
    known = {n: s["edges"] for n, s in before["columns"].items() if n in found and len(found[n])}
    return {"against": before["id"], "new": came, "gone": went, "psi": {n: _psi(found[n], e) for n, e in known.items()}}


def _psi(values: Any, edges: Sequence[float]) -> float:
    """0: distributed as the values were of which `edges` are the quantiles."""
    inner = np.unique(np.array(edges[1:-1]))
    now = np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1) / len(values)
    quantiles = np.searchsorted(inner, np.quantile(edges, np.linspace(0.005, 0.995, 1000)), side="right")
    then = np.bincount(quantiles, minlength=len(inner) + 1) / 1000
    now, then = np.maximum(now, LEAST), np.maximum(then, LEAST)
    return float(((now - then) * np.log(now / then)).sum())


def _is_number(kind: Any) -> bool:
    return str(kind).startswith(("int", "uint", "float", "double", "bool"))


def _numbers(column: Any) -> Any:
    values = np.array(column.drop_null().to_numpy(zero_copy_only=False), np.float64)
    return values[np.isfinite(values)]


def _arrow() -> Any:
    import pyarrow

    return pyarrow
