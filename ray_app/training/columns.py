"""Arrays of one length as a Parquet file: one row per example, arrays of more dimensions as lists of fixed size."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.models.base import Arrays

SHAPE = b"shape"  # of one row, in a column's metadata


def to_parquet(arrays: Arrays) -> bytes:
    """Raises ValueError for arrays of several lengths."""
    pa, pq = _arrow()
    fields, columns = [], []
    for name, array in arrays.items():
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        column = flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))
        fields.append(pa.field(name, column.type, metadata={SHAPE: json.dumps(array.shape[1:])}))
        columns.append(column)
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), out)
    return out.getvalue()


def from_parquet(body: bytes) -> dict[str, NDArray[Any]]:
    """What `to_parquet` was given."""
    pa, pq = _arrow()
    table = pq.read_table(pa.BufferReader(body))
    found = {}
    for field in table.schema:
        column = table[field.name].combine_chunks()
        inner = json.loads((field.metadata or {}).get(SHAPE, b"[]"))
        flat = column.flatten() if inner else column
        text = pa.types.is_string(flat.type)
        values = np.array(flat.to_pylist(), np.str_) if text else flat.to_numpy(zero_copy_only=False)
        found[field.name] = values.reshape(len(table), *inner)
    return found


def _arrow() -> tuple[Any, Any]:
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet
