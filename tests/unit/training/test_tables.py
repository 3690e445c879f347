"""Arrays and tables as Parquet, filters, drift, and the definitions of datasets."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from ray_app.catalog.dataset import Datasets, parse
from ray_app.clock import FixedClock
from ray_app.errors import InvalidField, NotFound
from ray_app.stores.base import Where
from ray_app.stores.memory import MemoryDocuments
from ray_app.training import tables
from ray_app.training.columns import from_parquet, to_parquet


def test_arrays_come_back_from_parquet_to_the_bit() -> None:
    drawn = np.random.default_rng(0)
    given = {
        "features": drawn.normal(size=(7, 3, 2)).astype(np.float32),
        "rows": drawn.integers(0, 9, (7, 3)).astype(np.int32),
        "there": drawn.random((7, 3)) < 0.5, "names": np.array([f"u:{k}" for k in range(7)]), "at": np.arange(7),
    }  # fmt: skip
    found = from_parquet(to_parquet(given))
    assert list(found) == list(given)
    for name, array in given.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(found[name], array), name


def test_arrays_of_several_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        to_parquet({"a": np.arange(3), "b": np.arange(4)})


def table(**columns: Any) -> Any:
    return tables.of({k: np.array(v) for k, v in columns.items()})


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (Where("kind", "eq", "a"), [1, 3]), (Where("kind", "in", ["b", "c"]), [2]), (Where("x", "gte", 2), [2, 3]),
        (Where("x", "lte", 1), [1]),
    ],
)  # fmt: skip
def test_filters_keep_rows_for_which_they_hold(where: Where, left: list[int]) -> None:
    found = tables.filtered(table(x=[1, 2, 3], kind=["a", "b", "a"]), (where,))
    assert found["x"].to_pylist() == left


def test_a_filter_on_a_column_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InvalidField, match="filters is 'y'; allowed: a column: x"):
        tables.filtered(table(x=[1]), (Where("y", "eq", 1),))


def test_a_table_comes_back_and_parts_are_joined() -> None:
    body = io.BytesIO()
    tables.write(table(x=[1, 2]), body)
    body.seek(0)
    whole = tables.joined([tables.read(body), table(x=[3])])
    assert whole["x"].to_pylist() == [1, 2, 3]
    assert tables.joined([]).num_rows == 0


def test_drift_is_near_0_for_the_same_population_and_large_for_another() -> None:
    drawn = np.random.default_rng(0)
    first = {**tables.about(table(x=drawn.normal(size=5000), clicked=[0, 1] * 2500), None), "id": "1"}
    assert first["label_rate"] == {"clicked": 0.5}
    same = tables.about(table(x=drawn.normal(size=5000), clicked=[0, 1] * 2500), first)["drift"]
    assert same["psi"]["x"] < 0.02
    moved = tables.about(table(x=drawn.normal(size=5000) + 1.0, y=[1] * 5000), first)["drift"]
    assert moved["psi"]["x"] > 0.2
    assert (moved["new"], moved["gone"]) == (["y"], ["clicked"])


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"name": "No"}, "name"), ({"name": "a", "source": "sql"}, "source"),
        ({"name": "a", "source": "parquet:"}, "source"),
        ({"name": "a", "days": 0}, "days"), ({"name": "a", "days": 7, "later_days": 7}, "later_days"),
        ({"name": "a", "filters": [{"field": "x"}]}, "filters"),
        ({"name": "a", "filters": [{"field": "x", "op": "like", "value": 1}]}, "where.op"),
    ],
)  # fmt: skip
def test_a_definition_that_is_none_is_refused_by_its_field(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as e:
        parse(raw)
    assert e.value.field == field


async def test_each_edit_is_a_version_and_every_version_stays(documents: MemoryDocuments, clock: FixedClock) -> None:
    kept = Datasets(documents, clock, "t")
    first = await kept.put(parse({"name": "daily"}))
    assert await kept.put(parse({"name": "daily"})) == first
    second = await kept.put(
        parse({"name": "daily", "days": 30, "filters": [{"field": "type", "op": "in", "value": ["click"]}]})
    )
    assert [first.version, second.version] == [1, 2]
    assert await kept.get("daily") == second
    assert await kept.get("daily", 1) == first
    assert await kept.list() == [second]
    with pytest.raises(NotFound, match=r"dataset 'x' is unknown to tenant 't'\. Known: daily"):
        await kept.get("x")
