"""Text embedding: fit, embed every item, embed what was written meanwhile until nothing is, then promote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ray_app.events.schema import item_from_dict
from ray_app.features.content import text
from ray_app.models.text import TextEmbedder
from ray_app.registry.watch import EMBEDDER, POLL_S, VECTORS, Live
from ray_app.stores.base import Document
from ray_app.training.gate import Made, release
from ray_app.training.report import Report, Tell
from ray_app.training.stores import Stores, origin_of
from ray_app.types import Matrix

if TYPE_CHECKING:
    from ray_app.models.base import Embedder

PAGE = 1000
FINE, COARSE, MANY = 384, 128, 20_000  # up to so many items a request can afford to compare more numbers
LEAST_KNOWN = 0.5  # of the items must get a vector
SETTLE_S = 2 * POLL_S  # a writer asks once in POLL_S which embedder is live, and then writes in its space
PASSES = 5  # over what was written meanwhile, before the embedder goes live all the same


async def embed(
    stores: Stores, tenant: str, tell: Tell, size: int | None = None, encoder: Path | None = None
) -> Report:
    """`size`: the vectors' dimensions; None: FINE for a small catalogue, COARSE for a large one. `encoder`: the folder
    of a sentence encoder that takes the place of the fitted one."""
    items = [d async for page in _pages(stores, tenant) for d in page]
    if len(items) < 2:
        return Report(EMBEDDER, None, why=f"{len(items)} items are too few to fit on")
    embedder, kind = _make(items, size or (FINE if len(items) <= MANY else COARSE), encoder)
    tell(f"{len(items):,} items, {embedder.size} dimensions, space {embedder.version}")
    origin = await origin_of(stores, tenant)
    epoch = (await Live(stores.registry, ()).refresh(tenant)).epoch
    rows = epoch.of(np.array([d.body["row"] for d in items], np.int32))
    base = np.zeros((int(rows.max()) + 1, embedder.size), np.float32)
    for k in range(0, len(items), PAGE):
        vectors, placed = await _write(stores, tenant, embedder, items[k : k + PAGE]), rows[k : k + PAGE]
        base[placed[placed >= 0]] = vectors[placed >= 0]
        tell(f"embedded {min(k + PAGE, len(items)):,} of {len(items):,}")
    written = float(base.any(axis=1).sum())
    share = written / len(items)
    if share < LEAST_KNOWN:
        return Report(EMBEDDER, None, {"share_known": share}, f"less than {LEAST_KNOWN:.0%} of the items got a vector")
    arrays = {**(embedder.arrays() if isinstance(embedder, TextEmbedder) else {}), VECTORS: base}
    metrics = {"share_known": share, "items": float(len(items)), "vectors": written}
    done = {d.id: d.version for d in items}
    await _follow(stores, tenant, embedder, done, tell)
    before = await stores.registry.live(tenant, EMBEDDER)
    about = {**kind, **origin, "space": embedder.version, "parameters": {"size": embedder.size}}
    report = await release(stores, tenant, Made(EMBEDDER, arrays, metrics, about, len(base)))
    if report.version is None:
        return report
    await asyncio.sleep(SETTLE_S)
    last = await _catch_up(stores, tenant, embedder, done)
    tell(f"{last} items were written while it went live")
    await stores.vectors.promote(tenant, embedder.version)
    retired = before.about.get("space") if before else None
    if retired and retired != embedder.version:  # a rollback has its vectors in its own files
        await stores.vectors.drop(tenant, retired)
    return report


def _make(items: Sequence[Document], size: int, encoder: Path | None) -> tuple[Embedder, dict[str, str]]:
    if encoder is not None:
        from ray_app.models.sentence import SentenceEmbedder

        return SentenceEmbedder(encoder), {"kind": "sentence", "path": str(encoder)}
    return TextEmbedder.fit([text(item_from_dict(d.body)) for d in items], size), {"kind": "text"}


async def _pages(stores: Stores, tenant: str) -> AsyncIterator[list[Document]]:
    after = ""
    while page := await stores.documents.find(tenant, "items", limit=PAGE, after=after):
        yield page
        after = page[-1].id


async def _write(stores: Stores, tenant: str, embedder: Embedder, items: Sequence[Document]) -> Matrix:
    """Their vectors float32 [len(items), size], 0 for a text without a known word."""
    vectors = embedder.embed([text(item_from_dict(d.body)) for d in items])
    numbers = np.array([d.body["row"] for d in items], np.int32)
    await stores.vectors.upsert(tenant, embedder.version, numbers, vectors)
    return vectors


async def _follow(stores: Stores, tenant: str, embedder: Embedder, done: dict[str, int], tell: Tell) -> None:
    """Passes over what was written meanwhile, until one finds nothing."""
    for _ in range(PASSES):
        late = await _catch_up(stores, tenant, embedder, done)
        tell(f"{late} items were written meanwhile")
        if not late:
            return
    tell(f"items are written faster than they are embedded: it goes live after {PASSES} passes, and one more follows")


async def _catch_up(stores: Stores, tenant: str, embedder: Embedder, done: dict[str, int]) -> int:
    """Embeds what is not `done` (version by id), and adds it there; says how many."""
    n = 0
    async for page in _pages(stores, tenant):
        late = [d for d in page if done.get(d.id) != d.version]
        if late:
            await _write(stores, tenant, embedder, late)
            done |= {d.id: d.version for d in late}
            n += len(late)
    return n
