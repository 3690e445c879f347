"""Compaction: rows without the items that are gone, and with them every live version made anew; then all at once.

1. which numbers have a document, tombstones included: the rows of a new epoch;
2. every live version made again on these rows, and kept staged;
3. looked once more: has every document a row, and is what was live still live? Anything else leaves all as it was;
4. one write: the new rows are live, and with them all that was made for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.models.precomputed import Precomputed
from ray_app.registry import watch
from ray_app.registry.pointer import ROWS
from ray_app.registry.version import Version
from ray_app.registry.watch import EMBEDDER, OF_KIND, RANKER, RECALLERS, VECTORS, Live, Models
from ray_app.training import precompute, recallers, train
from ray_app.training.gate import Made, release
from ray_app.training.report import Refused, Report, Tell
from ray_app.training.stores import Ground, Stores, history, origin_of, shelf_of
from ray_app.types import Rows

if TYPE_CHECKING:
    from ray_app.stores.base import Documents

PAGE = 2000
LEAST = 0.25  # of the rows must go: every model is fitted again for it
RANKERS = (RANKER, *OF_KIND.values())
ORDER = (
    EMBEDDER,
    *(n for n in RECALLERS if n != Precomputed.name),
    *RANKERS,
    Precomputed.name,
)  # each uses those before


@dataclass
class Work:
    """`dense`: the row of each number, -1 for none; `before`: ids of what is live, by name; `made`: what was staged,
    the rows first. `rankers`: fitted together, by name."""

    stores: Stores
    tenant: str
    tell: Tell
    dense: Rows
    before: Mapping[str, str]
    metrics: dict[str, float]
    made: list[Version] = field(default_factory=list)
    rankers: Mapping[str, Made] = field(default_factory=dict)


async def compact(stores: Stores, tenant: str, tell: Tell, least: float = LEAST) -> Report:
    """The rows of a new epoch are live with all that was live before, or nothing has changed and the report says why.
    `least`: the share of the rows that must go."""
    registry, dense = stores.registry, await _rows(stores.documents, tenant)
    before, live = await registry.live_ids(tenant), await Live(registry, (EMBEDDER,)).refresh(tenant)
    now, kept = live.epoch.size(len(dense)), int((dense >= 0).sum())
    share = (now - kept) / max(1, now)
    tell(f"{now:,} rows, of which {kept:,} have an item: {share:.0%} would go")
    metrics = {"rows_before": float(now), "rows": float(kept)}
    if now - kept < max(1, least * now):
        return Report(ROWS, None, metrics, f"{share:.0%} of the rows would go; at least {least:.0%} must")
    work = Work(stores, tenant, tell, dense, before, metrics | {"bytes_before": 0.0, "bytes": 0.0})
    try:
        await _make(work, live)
        await _look_again(work)
        if moved := await registry.switch(tenant, work.made[0], work.made[1:], before):
            raise Refused(f"another version of {', '.join(moved)} went live meanwhile. Run it again")
    except BaseException as e:
        if await registry.epoch(tenant) not in {v.id for v in work.made}:
            for version in work.made:
                await registry.retire(tenant, version)
        if isinstance(e, Refused):
            return Report(ROWS, None, work.metrics, str(e))
        raise
    if live.embedder is not None:
        numbers, _ = await stores.vectors.load(tenant, live.embedder.version)
        await stores.vectors.delete(tenant, live.embedder.version, _without_row(numbers, dense))
    return Report(ROWS, work.made[0].id, work.metrics)


async def _rows(documents: Documents, tenant: str) -> Rows:
    """int32 by number: its row, -1 where no document has it. A tombstone keeps its row: its item may come back."""
    n = await documents.number(tenant, "rows")  # first: what is given later needs no place here
    numbers = await _numbers(documents, tenant)
    found = np.unique(numbers[numbers < n])
    dense = np.full(n, -1, np.int32)
    dense[found] = np.arange(len(found), dtype=np.int32)
    return dense


async def _numbers(documents: Documents, tenant: str) -> Rows:
    found, after = list[int](), ""
    while page := await documents.find(tenant, "items", limit=PAGE, after=after, deleted=True):
        found += [int(d.body["row"]) for d in page]
        after = page[-1].id
    return np.array(found, np.int32)


def _without_row(numbers: Rows, dense: Rows) -> Rows:
    early = numbers[numbers < len(dense)]
    return early[dense[early] < 0]


async def _make(work: Work, live: Models) -> None:
    """The rows, and on them every version that is live. Raises Refused, naming what cannot be made."""
    if unknown := sorted(set(work.before) - {*ORDER, ROWS}):
        raise Refused(f"it cannot make {', '.join(unknown)} again; `lemo model retire` it, or use a release that can")
    origin = await origin_of(work.stores, work.tenant)
    kept = int(work.metrics["rows"])
    models = await _staged(work, Made(ROWS, {ROWS: work.dense}, work.metrics, origin, kept), Models())
    width = None if live.base is None else live.base[:0]  # of vectors, also where the store has none of this space
    on = Ground(
        await shelf_of(work.stores, work.tenant, replace(models, embedder=live.embedder, base=width)),
        models,
        {**origin, "row_epoch": models.epoch.id},
    )
    for name in (n for n in ORDER if n in work.before):
        version = await work.stores.registry.get(work.tenant, name, work.before[name])
        try:
            one = await _again(work, version, on)
            on = replace(on, models=await _staged(work, one, on.models))
        except Refused as e:
            raise Refused(f"{name} could not be made again, {e}") from None
        was, now = _bytes(await work.stores.registry.load(work.tenant, version)), _bytes(one.parts)
        work.metrics["bytes_before"] += was
        work.metrics["bytes"] += now
        work.tell(f"{name}: {was:,} bytes become {now:,}")


async def _again(work: Work, version: Version, on: Ground) -> Made:
    """What is live, on other rows. Raises Refused."""
    stores, tenant, tell = work.stores, work.tenant, work.tell
    if version.name == EMBEDDER:
        files: dict[str, Any] = {**await stores.registry.load(tenant, version), VECTORS: on.pinned.vectors.whole()}
        about = {**{k: v for k, v in version.about.items() if k not in ("code", "parent")}, **on.origin}
        return Made(EMBEDDER, files, version.metrics, about, on.pinned.n)
    if version.name in RANKERS:
        work.rankers = work.rankers or await _rankers(work, version, on)
        if version.name not in work.rankers:
            raise Refused("the lines above say why")
        return work.rankers[version.name]
    if version.name == Precomputed.name:
        return await precompute.made_of(stores, tenant, on, (await history(stores, tenant, on.pinned))[0], tell)
    return await recallers.remade(stores, tenant, version, on, tell)


async def _rankers(work: Work, first: Version, on: Ground) -> dict[str, Made]:
    """Of every kind that is live, by name, as one run of the job train makes them: of what `first` learned from."""
    stores, tenant = work.stores, work.tenant
    before = {n: await stores.registry.get(tenant, n, work.before[n]) for n in RANKERS if n in work.before}
    dataset = first.about.get("dataset", "").partition("/")[0] or None
    named = [kind for kind, name in OF_KIND.items() if name in before]
    plan = train.Plan(first.about.get("label_days", train.Plan().label_days), dataset=dataset, named=named)
    return {made.name: made for made in await train.made_of(stores, tenant, on, work.tell, plan, before)}


async def _staged(work: Work, made: Made, models: Models) -> Models:
    """`models` with it. Raises Refused where no replica could serve it."""
    report = await release(work.stores, work.tenant, made, "staged")
    if report.version is None:
        raise Refused(report.why)
    work.made.append(await work.stores.registry.get(work.tenant, made.name, report.version))
    return await watch.loaded(work.stores.registry, work.tenant, work.made[-1], models)


async def _look_again(work: Work) -> None:
    """Raises Refused where an item has a number without a row."""
    late = _without_row(await _numbers(work.stores.documents, work.tenant), work.dense)
    if len(late):
        raise Refused(f"{len(late)} items were written meanwhile under numbers given before. Run it again")


def _bytes(parts: Mapping[str, Any]) -> int:
    """Of arrays, and of files by their path."""
    return sum(p.stat().st_size if isinstance(p, Path) else len(p) if isinstance(p, bytes) else p.nbytes
               for p in parts.values())  # fmt: skip
