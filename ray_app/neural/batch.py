"""Many documents into the vector database: chunk after chunk, going on where a run before this one ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from ray_app.errors import InvalidField
from ray_app.events.schema import parse_id
from ray_app.events.wire import as_id
from ray_app.neural import orders
from ray_app.neural.event import digest
from ray_app.neural.search import Collection, Entry, words
from ray_app.neural.stores import Stores
from ray_app.stores.base import Document, Where

if TYPE_CHECKING:
    from ray_app.stores.base import Documents, Vectors

CHUNK = 200
PROGRESS = "batches"  # kind of what a run has done so far
ORDERS = "orders"
IDS = ("id", "order_id", "dish_id", "item_id", "staff_id", "event_id", "document_id")
MOST_NAME = 64
MOST_FAILED = 1000  # are named
Tell = Callable[[int, int], Awaitable[None]]


@dataclass(slots=True)
class Progress:
    """`after`: the place behind which the next chunk begins. `failed`: [{index or id, why}]."""

    after: str = ""
    indexed: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)


def collection(documents: Documents, vectors: Vectors, tenant: str, name: str) -> Collection:
    """One that producers fill. Raises InvalidField for what is no name of one."""
    if not name.replace("_", "").isalnum() or not name.isascii() or len(name) > MOST_NAME:
        raise InvalidField("collection_name", name, f"at most {MOST_NAME} letters, digits and _")
    return Collection(documents, vectors, tenant, f"collection_{name.lower()}")


async def put(stores: Stores, tenant: str, name: str, data: Mapping[str, Any]) -> str:
    """Index one document; returns its id. Written again under the same id it replaces itself."""
    entry = entry_of(data)
    await collection(stores.documents, stores.vectors, tenant, name).put([entry], stores.clock.now())
    return entry.id


def entry_of(data: object) -> Entry:
    """Its id is what it says under the first of IDS, or is made of all of it. Raises InvalidField."""
    if not isinstance(data, Mapping) or not data:
        raise InvalidField("data", data, "an object with at least one field")
    said = next((data[k] for k in IDS if data.get(k) is not None), None)
    try:
        text = orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()
    except (TypeError, ValueError):
        raise InvalidField("data", data, "an object that can be written as JSON in UTF-8") from None
    id = digest(text) if said is None else parse_id("data.id", as_id(said))
    if "store_id" in data and "order_id" in data:  # two stores may count their orders alike
        id = digest(str(data["store_id"]), id)
    return Entry(id, {"data": data}, words(data))


async def put_orders(stores: Stores, tenant: str, run: str, given: Sequence[Any], tell: Tell) -> Progress:
    """Index a list of orders. `run` names the progress, which is kept after each chunk."""
    progress = await _begun(stores, tenant, run)
    into = collection(stores.documents, stores.vectors, tenant, ORDERS)
    for at in range(int(progress.after or 0), len(given), CHUNK):
        entries: dict[str, Entry] = {}
        for k, one in enumerate(given[at : at + CHUNK], at):
            try:
                entry = entry_of(one)
                entries[entry.id] = entry
                progress.indexed += 1
            except InvalidField as e:
                progress.failed += [{"index": k, "why": e.message}] if len(progress.failed) < MOST_FAILED else []
        await _put(into, list(entries.values()), stores)
        progress.after = str(at + CHUNK)
        await _kept(stores, tenant, run, progress)
        await tell(min(at + CHUNK, len(given)), len(given))
    await _kept(stores, tenant, run, progress, ended=True)
    return progress


async def put_period(
    stores: Stores, tenant: str, run: str, store_id: str, period: tuple[int, int], tell: Tell
) -> Progress:
    """Index the orders that began in a store within `period` (ms; from, to before which), as they are now."""
    progress = await _begun(stores, tenant, run)
    into = collection(stores.documents, stores.vectors, tenant, ORDERS)
    while page := await in_period(stores, tenant, store_id, period, CHUNK, progress.after):
        await _put(into, [entry_of(_order(d)) for d in page], stores)
        progress.after, progress.indexed = page[-1].id, progress.indexed + len(page)
        await _kept(stores, tenant, run, progress)
        await tell(progress.indexed, 0)
    await _kept(stores, tenant, run, progress, ended=True)
    return progress


def _order(d: Document) -> dict[str, Any]:
    return {k: v for k, v in d.body.items() if v is not None and k != "kept_at"}


async def in_period(
    stores: Stores, tenant: str, store_id: str, period: tuple[int, int], limit: int, after: str
) -> list[Document]:
    """Orders of the store that began from period[0] to before period[1], by their key."""
    since, until = period
    where = [Where("store_id", "eq", store_id), Where("at", "gte", since), Where("at", "lte", until - 1)]
    return await stores.documents.find(tenant, orders.KIND, where, limit, after)


async def _put(into: Collection, entries: Sequence[Entry], stores: Stores) -> None:
    if entries:
        await into.put(entries, stores.clock.now())


async def _begun(stores: Stores, tenant: str, run: str) -> Progress:
    found = await stores.documents.get(tenant, PROGRESS, run)
    return Progress(**found.body) if found else Progress()


async def _kept(stores: Stores, tenant: str, run: str, p: Progress, ended: bool = False) -> None:
    body = {"after": p.after, "indexed": p.indexed, "failed": p.failed}
    await stores.documents.upsert(tenant, PROGRESS, [Document(run, stores.clock.now(), body, deleted=ended)])
