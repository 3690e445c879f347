"""One collection of Milvus: vectors by row, made at the first write; blocking calls, each with a timeout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ray_app.types import Matrix, Rows, Scores

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")
PART_BYTES = 8 * 1024 * 1024  # of vectors in one call; Milvus refuses 64 MiB
PAGE = 16_384  # rows of one query: Milvus answers no more
ABSENT = (100, 1600)  # codes for a collection and an alias that are not there
NOT_LOADED = (101, 103)
INDEX: dict[str, Any] = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 200}}


class Absent(Exception):
    """A read of a collection that is not there, or no longer."""


class Collection:
    """Reads raise Absent when it is not there; all raise MilvusException and grpc.RpcError as pymilvus does."""

    def __init__(self, client: MilvusClient, name: str, timeout_s: float) -> None:
        self._client, self.name, self._timeout_s = client, name, timeout_s
        self._made, self._making = False, threading.Lock()
        self._read: dict[str, Any] = {"consistency_level": "Strong", "timeout": timeout_s}

    def upsert(self, vectors: Mapping[int, Matrix], size: int) -> None:
        lines = [{"row": row, "vector": vector} for row, vector in vectors.items()]
        step = max(1, PART_BYTES // (4 * size))
        for k in range(0, len(lines), step):
            self._upsert(lines[k : k + step], size)

    def _upsert(self, lines: list[dict[str, Any]], size: int) -> None:
        if self._write(lines, size) is None:  # another process dropped it since we made it
            self._made = False
            if self._write(lines, size) is None:
                raise RuntimeError(f"collection {self.name} is dropped while it is written")

    def _write(self, lines: list[dict[str, Any]], size: int) -> dict[str, Any] | None:
        self._make(size)
        return unless_absent(lambda: self._client.upsert(self.name, lines, timeout=self._timeout_s))

    def delete(self, rows: list[int]) -> None:
        for k in range(0, len(rows), PAGE):
            part = rows[k : k + PAGE]
            unless_absent(partial(self._client.delete, self.name, ids=part, timeout=self._timeout_s))

    def pages(self) -> Iterator[tuple[Rows, Matrix]]:
        """Rows int32 [k] ascending over all pages, vectors float32 [k, size]."""
        after, limit = -1, 1000
        # As pymilvus' own iterator asks: only so are the rows of a page the first ones. A page may then be short before
        # the last; an empty one is the end.
        as_iterator = {"iterator": "True", "reduce_stop_for_best": "True"}
        while found := self._query(f"row > {after}", ["row", "vector"], limit=limit, **as_iterator):
            rows = np.array([f["row"] for f in found], np.int32)
            vectors = np.array([f["vector"] for f in found], np.float32)
            order = np.argsort(rows)
            yield rows[order], vectors[order]
            after, limit = int(rows.max()), min(PAGE, max(1, PART_BYTES // vectors[0].nbytes))

    def find(self, query: Matrix, filter: str, limit: int) -> tuple[Rows, Scores]:
        """At most `limit` rows of the filter, best first, by an approximate index."""
        ef = max(128, min(2 * limit, 32_768))
        ask = partial(
            self._client.search, self.name, [query], filter=filter, limit=limit, output_fields=["row"],
            anns_field="vector", search_params={"metric_type": "IP", "params": {"ef": ef}}, **self._read,
        )  # fmt: skip
        (found,) = self._answer(ask)
        return np.array([f["row"] for f in found], np.int32), np.array([f["distance"] for f in found], np.float32)

    def count(self, filter: str) -> int:
        return int(self._query(filter, ["count(*)"])[0]["count(*)"])

    def take(self, alias: str) -> None:
        """`alias` names this collection from now on."""
        moved = unless_absent(lambda: [self._client.alter_alias(self.name, alias, timeout=self._timeout_s)])
        if moved is None:
            self._client.create_alias(self.name, alias, timeout=self._timeout_s)

    def drop(self) -> None:
        self._made = False
        found = unless_absent(partial(self._client.list_aliases, self.name, timeout=self._timeout_s)) or {}
        for alias in found.get("aliases", ()):  # Milvus drops no collection that has one
            unless_absent(partial(self._client.drop_alias, alias, timeout=self._timeout_s))
        unless_absent(partial(self._client.drop_collection, self.name, timeout=self._timeout_s))

    def _query(self, filter: str, fields: list[str], **options: Any) -> list[dict[str, Any]]:
        ask = partial(self._client.query, self.name, filter=filter, output_fields=fields, **self._read, **options)
        return self._answer(ask)

    def _answer(self, ask: Callable[[], T]) -> T:
        from pymilvus.exceptions import MilvusException

        try:
            return self._loaded(ask)
        except MilvusException as e:
            if e.code in ABSENT:
                raise Absent(self.name) from e
            raise

    def _loaded(self, ask: Callable[[], T]) -> T:
        """One that is not loaded is loaded: a restart may have released it."""
        from pymilvus.exceptions import MilvusException

        try:
            return ask()
        except MilvusException as e:
            if e.code not in NOT_LOADED:
                raise
        self._load()
        return ask()

    def _make(self, size: int) -> None:
        """There, indexed and loaded; also what another process is making, or made in part before it ended."""
        with self._making:
            if self._made:
                return
            if not self._exists():
                unless_done(partial(self._create, size), self._exists)
            self._load()
            self._made = True

    def _create(self, size: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=size)
        self._client.create_collection(self.name, schema=schema, consistency_level="Strong", timeout=self._timeout_s)

    def _load(self) -> None:
        if not self._indexed():
            params = self._client.prepare_index_params()
            params.add_index("vector", **INDEX)
            unless_done(partial(self._client.create_index, self.name, params, timeout=self._timeout_s), self._indexed)
        self._client.load_collection(self.name, timeout=self._timeout_s)

    def _exists(self) -> bool:
        return bool(self._client.has_collection(self.name, timeout=self._timeout_s))

    def _indexed(self) -> bool:
        return bool(self._client.list_indexes(self.name, timeout=self._timeout_s))


def unless_absent(call: Callable[[], T]) -> T | None:
    """None when what it is about is not there."""
    from pymilvus.exceptions import MilvusException

    try:
        return call()
    except MilvusException as e:
        if e.code in ABSENT:
            return None
        raise


def unless_done(call: Callable[[], object], done: Callable[[], bool]) -> None:
    """An error is none when another process did the same at the same moment."""
    from pymilvus.exceptions import MilvusException

    try:
        call()
    except MilvusException:
        if not done():
            raise
