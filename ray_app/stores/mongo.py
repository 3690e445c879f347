"""The served document store: MongoDB, with plain operators only, so that servers which speak its protocol do as well.

All tenants and kinds lie in one collection under one text `_id`. So the one index that every server keeps by itself
makes ids unique and gives order and pages; a new kind needs nothing made, and cannot meet a collection of somebody
else's in a shared database; the tombstones of all kinds are dropped by one query.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray_app.clock import Clock
from ray_app.errors import Unavailable
from ray_app.stores.base import Document, Outcome, Where
from ray_app.stores.mongo_client import MongoConnection
from ray_app.stores.mongo_rows import counter_of, scope_of, to_document, to_query, to_row, within

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

    Database = AsyncDatabase[dict[str, Any]]

DATABASE = "lemo"
CHUNK = 1000  # read in one round trip
WRITES = 250  # in one: a slow server still answers in time, and our loop is never held up for long
TRIES = 50  # each lost try means that another writer's newer version was stored in between
DUPLICATE_KEY = 11000
LIVE_BY_ID = [("deleted", 1), ("_id", 1)]  # counts live documents; finds tombstones


class MongoDocuments:
    """For one event loop; nothing is sent before the first call. The URL's path names the database (or DATABASE)."""

    def __init__(self, url: str, clock: Clock, timeout_s: float = 5.0) -> None:
        self._client, self._clock = MongoConnection(url, DATABASE, timeout_s), clock
        self._indexed = False

    async def get(self, tenant: str, kind: str, id: str) -> Document | None:
        return (await self.get_many(tenant, kind, [id])).get(id)

    async def get_many(self, tenant: str, kind: str, ids: Sequence[str], deleted: bool = False) -> dict[str, Document]:
        scope = scope_of(tenant, kind)

        async def work(db: Database) -> dict[str, Document]:
            found: dict[str, Document] = {}
            for at in range(0, len(ids), CHUNK):
                query = {"_id": {"$in": [scope + id for id in ids[at : at + CHUNK]]}}
                async for row in db.documents.find(query, batch_size=CHUNK):
                    if deleted or not row["deleted"]:
                        read = to_document(row, scope)
                        found[read.id] = read
            return found

        return await self._client.do(work)

    async def upsert(self, tenant: str, kind: str, documents: Sequence[Document]) -> list[Outcome]:
        scope = scope_of(tenant, kind)

        async def work(db: Database) -> list[Outcome]:
            if not self._indexed:
                await db.documents.create_index(LIVE_BY_ID)
                self._indexed = True
            outcomes: list[Outcome] = []
            for at in range(0, len(documents), WRITES):
                outcomes += await self._upsert(db, scope, documents[at : at + WRITES])
            return outcomes

        return await self._client.do(work) if documents else []

    async def _upsert(self, db: Database, scope: str, documents: Sequence[Document]) -> list[Outcome]:
        """Write as if nothing were stored; for ids that the server refuses, look at what is stored, and again."""
        waiting: dict[str, list[int]] = defaultdict(list)
        for place, d in enumerate(documents):
            waiting[d.id].append(place)
        outcomes, held = [Outcome.STALE] * len(documents), dict[str, int]()
        for _ in range(TRIES):
            folds = {id: accepted for id in waiting if (accepted := _fold(documents, waiting[id], held.get(id)))}
            created, refused = await self._write(db, scope, documents, folds)
            for id in folds.keys() - refused:
                for place in folds[id]:
                    outcomes[place] = Outcome.UPDATED
                if id in created:
                    outcomes[folds[id][0]] = Outcome.CREATED
            if not refused:
                return outcomes
            waiting = {id: waiting[id] for id in refused}
            held = await self._versions(db, scope, refused)
        raise Unavailable(f"too many write {sorted(waiting)[:3]} at once; try again")

    async def _write(
        self, db: Database, scope: str, documents: Sequence[Document], folds: Mapping[str, list[int]]
    ) -> tuple[set[str], set[str]]:
        """One atomic write for each id. Returns the ids that were new, and those that the server refused: a newer
        version is stored, or two made the document at the same moment."""
        from pymongo import ReplaceOne
        from pymongo.errors import BulkWriteError

        now, writes = self._clock.now(), []
        for id, accepted in folds.items():
            # Where this matches nothing it becomes an insert, which the unique _id refuses if a newer one is stored.
            older = {"_id": scope + id, "version": {"$lte": documents[accepted[0]].version}}
            writes.append(ReplaceOne(older, to_row(documents[accepted[-1]], now), upsert=True))
        if not writes:
            return set(), set()
        try:
            done: Mapping[str, Any] = (await db.documents.bulk_write(writes, ordered=False)).bulk_api_result
        except BulkWriteError as e:
            done = e.details  # not raised from it: its text repeats the documents
        self._check(done)
        ids = list(folds)
        return {ids[u["index"]] for u in done["upserted"]}, {ids[w["index"]] for w in done["writeErrors"]}

    def _check(self, done: Mapping[str, Any]) -> None:
        """Raises Unavailable for any failure of a bulk but a refused insert."""
        failed = [w for w in done["writeErrors"] if w["code"] != DUPLICATE_KEY] + done["writeConcernErrors"]
        if failed:
            why = f"{failed[0].get('errmsg')} (code {failed[0].get('code')})"[:300]
            raise Unavailable(f"documents at {self._client.shown} refused {len(failed)} writes: {why}")

    async def _versions(self, db: Database, scope: str, ids: Collection[str]) -> dict[str, int]:
        query = {"_id": {"$in": [scope + id for id in ids]}}
        rows = db.documents.find(query, {"version": 1}, batch_size=CHUNK)
        return {row["_id"][len(scope) :]: int(row["version"]) async for row in rows}

    async def find(
        self,
        tenant: str,
        kind: str,
        where: Sequence[Where] = (),
        limit: int = 100,
        after: str = "",
        deleted: bool = False,
    ) -> list[Document]:
        scope = scope_of(tenant, kind)
        there: list[Any] = [] if deleted else [{"deleted": False}]
        query = {"$and": [*within(scope, after), *there, *(to_query(w, scope) for w in where)]}

        async def work(db: Database) -> list[Document]:
            rows = db.documents.find(query, batch_size=min(limit, CHUNK)).sort("_id", 1).limit(limit)
            return [to_document(row, scope) async for row in rows]

        return await self._client.do(work) if limit > 0 else []

    async def count(self, tenant: str, kind: str) -> int:
        query = {"$and": [*within(scope_of(tenant, kind)), {"deleted": False}]}
        return await self._client.do(lambda db: db.documents.count_documents(query))

    async def next_number(self, tenant: str, name: str, n: int = 1) -> int:
        from pymongo import ReturnDocument
        from pymongo.errors import DuplicateKeyError

        query, step = {"_id": counter_of(tenant, name)}, {"$inc": {"next": n}}

        async def work(db: Database) -> int:
            for _ in range(TRIES):
                try:
                    found: Any = await db.counters.find_one_and_update(
                        query, step, upsert=True, return_document=ReturnDocument.AFTER
                    )
                    return int(found["next"]) - n
                except DuplicateKeyError:  # another made the counter at the same moment
                    continue
            raise Unavailable(f"too many take numbers of {name!r} at once; try again")

        return await self._client.do(work)

    async def number(self, tenant: str, name: str) -> int:
        found = await self._client.do(lambda db: db.counters.find_one({"_id": counter_of(tenant, name)}))
        return int(found["next"]) if found else 0

    async def drop_tombstones(self, before: int) -> int:
        query = {"deleted": True, "written_at": {"$lt": before}}

        async def work(db: Database) -> int:
            dropped = 0
            while rows := await db.documents.find(query, {"_id": 1}, batch_size=CHUNK).limit(CHUNK).to_list():
                # Asked again, since one of them may live again by now.
                gone = await db.documents.delete_many({"_id": {"$in": [row["_id"] for row in rows]}, **query})
                dropped += gone.deleted_count
            return dropped

        return await self._client.do(work)

    async def version(self) -> str:
        return f"MongoDB {(await self._client.do(lambda db: db.client.server_info()))['version']}"

    async def close(self) -> None:
        await self._client.close()


def _fold(documents: Sequence[Document], places: Sequence[int], held: int | None) -> list[int]:
    """Of the writes of one id in one call, at these places in order, the accepted ones when `held` is stored.

    The last of them alone is written, on the condition that the first would be accepted; so the outcome of each holds,
    whatever is stored by then.
    """
    accepted: list[int] = []
    for place in places:
        if held is None or documents[place].version >= held:
            held = documents[place].version
            accepted.append(place)
    return accepted
