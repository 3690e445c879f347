"""Steps over many documents: a batch of them, copies among them, and which tenants and documents there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ray_app.access.keys import Keys
from ray_app.content.document import Document, Kept, Status
from ray_app.content.process import Processor
from ray_app.content.stores import Stores
from ray_app.errors import InvalidField, NotFound
from ray_app.stores.base import Where

logger = logging.getLogger(__name__)
PARTS = 4  # of all documents by the first digit of their ids, so that as many tasks share them
BATCH_S = 180.0  # of one batch, below the soft limit of a task


async def process_many(stores: Stores, tenant: str, ids: Sequence[str]) -> tuple[int, list[str], list[str]]:
    """How many were processed, those that failed, and those for which there was no time; a document that cannot be
    processed does not hurt the others. Raises Unavailable."""
    processor, done, failed = Processor(stores, tenant), 0, list[str]()
    ends = stores.clock.monotonic() + BATCH_S
    for k, id in enumerate(ids):
        if k and stores.clock.monotonic() > ends:
            return done, failed, list(ids[k:])
        try:
            ended = await processor.process(id)
        except (NotFound, InvalidField, ValueError) as e:
            logger.warning("a document cannot be processed", extra={"document": id, "why": str(e)[:300]})
            failed.append(id)
            continue
        done += 1
        failed += [id] if ended.status is Status.FAILED else []
    return done, failed, []


async def waiting(stores: Stores, tenant: str, *among: Where) -> list[Document]:
    """Fetched documents; what was published first comes first, as the original."""
    where = [Where("status", "eq", Status.FETCHED.value), *among]
    pages = Kept(stores.documents, stores.clock, tenant).pages(where)
    found = [d async for page in pages for d in page]
    return sorted(found, key=lambda d: (d.said.published_at or d.fetched_at, d.id))


async def waiting_part(stores: Stores, tenant: str, part: int) -> list[str]:
    """The same of one part, 0 to PARTS - 1."""
    digits = 16 // PARTS
    first, last = f"{part * digits:x}", f"{part * digits + digits - 1:x}g"  # no id has a g
    return [d.id for d in await waiting(stores, tenant, Where("id", "gte", first), Where("id", "lte", last))]


async def deduplicate(stores: Stores, tenant: str, since: int = 0) -> dict[str, int]:
    """{exact, near}: how many of the documents fetched since then are copies. Looks anew at each, originals before
    copies and the oldest first, so that what Redis has lost is there again; an item comes or goes where the answer is
    another."""
    processor, counts = Processor(stores, tenant), {"exact": 0, "near": 0}
    where = [Where("fetched_at", "gte", since)]
    found = [
        (d.status is Status.DUPLICATE, d.fetched_at, d.id)
        async for page in processor.kept.pages(where)
        for d in page
        if _is_placed(d)
    ]
    for *_, id in sorted(found):
        document = (await processor.kept.get_many([id])).get(id)
        if document is None or not _is_placed(document):
            continue
        ended = await processor.decide(document) if await _changed(processor, document) else document
        if ended.status is Status.DUPLICATE:
            counts[ended.copy] += 1
    return counts


async def _changed(processor: Processor, document: Document) -> bool:
    """Whether it is a copy of something else than it is noted to be."""
    copy = await processor.copy_of(document)
    return (copy.of, copy.kind) != (document.duplicate_of, document.copy) if copy else bool(document.duplicate_of)


def _is_placed(d: Document) -> bool:
    return d.status in (Status.INDEXED, Status.DUPLICATE) and bool(d.keys)


async def indexed(stores: Stores, tenant: str, since: int = 0) -> int:
    """Documents with an item, of those processed since then."""
    kept = Kept(stores.documents, stores.clock, tenant)
    where: Sequence[Where] = (Where("status", "eq", Status.INDEXED.value), Where("processed_at", "gte", since))
    return sum([len(page) async for page in kept.pages(where)])


async def tenants(stores: Stores) -> list[str]:
    """Those with a key: whose content a task of the house itself looks after."""
    return await Keys(stores.documents, stores.clock).tenants()
