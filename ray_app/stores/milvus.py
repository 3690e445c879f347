"""Served vectors: Milvus 2.4 or later by pymilvus; a collection per tenant and space, an alias for the live space."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from ray_app.errors import InvalidField, InvalidSettings, NotFound, Unavailable
from ray_app.stores import masked
from ray_app.stores.base import LIVE, MOST_ANSWERS, writable
from ray_app.stores.milvus_collection import Absent, Collection, unless_absent
from ray_app.stores.url import without_credentials
from ray_app.types import Mask, Matrix, Rows, Scores

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")
THREADS = 8  # a read waits until Milvus has seen all writes, up to 0.2 s, so that several are under way
# Without these, a server that comes back is tried again only after a pause that grows to two minutes.
SOON_AGAIN = {"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 1000}
WRONG = (5, 6, 1100)  # codes of Milvus for a request that is wrong: it would be so again


class MilvusVectors:
    """`url`: http(s)://[user:password@|token@]host[:port][/database]. A search is approximate (HNSW).

    Reads are strongly consistent: they see every acknowledged write of every process. The client is blocking (its
    asynchronous twin is tied to one event loop, and flows have loops of their own), so it has threads. It is opened at
    the first call. A call takes about `timeout_s` at most; a load has that for every page.
    """

    def __init__(self, url: str, prefix: str = "lemo", timeout_s: float = 10.0) -> None:
        parts, self._shown = urlsplit(url), without_credentials(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidSettings(
                f"setting stores.milvus_url is {self._shown!r}; allowed: http(s)://user:password@host:port/database"
            )
        self._url, self._prefix, self._timeout_s = url, prefix, timeout_s
        self._threads = ThreadPoolExecutor(THREADS, "milvus")
        self._opening = threading.Lock()
        self._client: MilvusClient | None = None
        self._collections: dict[str, Collection] = {}

    async def upsert(self, tenant: str, space: str, rows: Rows, vectors: Matrix) -> None:
        name, given = self.name(tenant, writable(space)), np.asarray(vectors, np.float32)
        last = {int(row): vector for row, vector in zip(rows, given, strict=True)}  # twice in one call: stored twice
        if last:
            await self._do(name, lambda c: c.upsert(last, given.shape[1]))

    async def delete(self, tenant: str, space: str, rows: Rows) -> None:
        await self._do(self.name(tenant, writable(space)), lambda c: c.delete([int(r) for r in rows]))

    async def load(self, tenant: str, space: str) -> tuple[Rows, Matrix]:
        pages = await self._read(tenant, space, lambda c: list(c.pages()))
        if not pages:
            return np.zeros(0, np.int32), np.zeros((0, 0), np.float32)
        return np.concatenate([rows for rows, _ in pages]), np.concatenate([vectors for _, vectors in pages])

    async def search(
        self, tenant: str, space: str, query: Matrix, n: int, allowed: Mask | None = None
    ) -> tuple[Rows, Scores]:
        if n > MOST_ANSWERS:
            raise InvalidField("n", n, f"at most {MOST_ANSWERS}")

        def work(c: Collection) -> tuple[Rows, Scores]:
            find = partial(c.find, np.asarray(query, np.float32))
            return find("", n) if allowed is None else masked.search(find, c.count, n, allowed)

        found = await self._read(tenant, space, work)
        return found or (np.zeros(0, np.int32), np.zeros(0, np.float32))

    async def promote(self, tenant: str, space: str) -> None:
        def work(c: Collection) -> int:
            if stored := c.count("row >= 0"):
                c.take(self.name(tenant, LIVE))
            return stored

        if not await self._read(tenant, writable(space), work):
            raise NotFound(f"tenant {tenant!r} has no vectors in space {space!r}", field="space", value=space)

    async def drop(self, tenant: str, space: str) -> None:
        await self._do(self.name(tenant, writable(space)), lambda c: c.drop())

    async def version(self) -> str:
        return f"Milvus {await self._call(lambda: self._open().get_server_version(timeout=self._timeout_s))}"

    async def close(self) -> None:
        def call() -> None:
            if self._client is not None:
                self._client.close()
                self._client = None

        await asyncio.get_running_loop().run_in_executor(self._threads, call)
        self._threads.shutdown()

    def name(self, tenant: str, space: str) -> str:
        """The collection of a space, or the alias for LIVE: legal in Milvus, and another for every other pair."""
        key = sha256("\n".join((self._prefix, tenant, space)).encode()).hexdigest()[:16]
        words = "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{self._prefix}_{tenant}_{space}")
        return f"{'' if words[0].isalpha() else '_'}{words[:200]}_{key}"

    async def _do(self, name: str, work: Callable[[Collection], T]) -> T:
        return await self._call(lambda: work(self._collection(name)))

    async def _read(self, tenant: str, space: str, work: Callable[[Collection], T]) -> T | None:
        """None when there is no such collection. LIVE is looked up once, so that `work` never sees two spaces."""
        name = self.name(tenant, space)

        def call() -> T | None:
            while found := self._named_by(name) if space == LIVE else name:
                try:
                    return work(self._collection(found))
                except Absent:
                    if space != LIVE:
                        break  # LIVE may name another one by now
            return None

        return await self._call(call)

    def _named_by(self, alias: str) -> str | None:
        found = unless_absent(partial(self._open().describe_alias, alias, timeout=self._timeout_s))
        return str(found["collection_name"]) if found else None

    def _collection(self, name: str) -> Collection:
        client = self._open()
        with self._opening:
            if name not in self._collections:
                self._collections[name] = Collection(client, name, self._timeout_s)
            return self._collections[name]

    async def _call(self, work: Callable[[], T]) -> T:
        """Raises Unavailable when the store is away or refuses; a write may then have been done in part."""

        def call() -> T:
            from grpc import RpcError
            from pymilvus.exceptions import MilvusException, ParamError

            try:
                return work()
            except (MilvusException, RpcError) as e:
                if isinstance(e, ParamError) or (isinstance(e, MilvusException) and e.code in WRONG):
                    raise
                why = e.message if isinstance(e, MilvusException) else f"{e.code().name} {e.details()}"
                raise Unavailable(f"vectors: Milvus at {self._shown} did not answer: {why[:300]}") from e

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _open(self) -> MilvusClient:
        """Once open, the client connects again by itself."""
        from pymilvus import MilvusClient

        with self._opening:
            if self._client is None:
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what it logs, it also raises
                at = urlsplit(self._url)
                token = ":".join(unquote(part) for part in (at.username, at.password) if part)
                self._client = MilvusClient(
                    f"{at.scheme}://{at.netloc.rpartition('@')[2]}", token=token, db_name=at.path.strip("/"),
                    timeout=self._timeout_s, dedicated=True, grpc_options=SOON_AGAIN,
                )  # fmt: skip
            return self._client
