"""The first start: a shop's history into an empty store, and the jobs that make recommendations of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray_app.errors import LemoError
from ray_app.models.factors import Factors
from ray_app.operations.mapping import Map, load_map
from ray_app.operations.move import Import, Progress, Told, appended
from ray_app.operations.stores import Stores
from ray_app.registry.watch import EMBEDDER, ITEM_CF, RANKER
from ray_app.streams.applied import wait_applied

JOBS = {"embed": EMBEDDER, "similarity": ITEM_CF, "recall": Factors.name, "train": RANKER}  # what each makes
FIRST = {"train": ("--here",)}  # somebody waits: no worker is started for a shop's first fit
FLOWS_OF = {"items": ("items",), "behaviors": ("behaviors", "hot", "profile")}
APPLY_S = 600.0
Tell = Callable[[str], None]
FollowJob = Callable[[str, Sequence[str]], Iterator[str]]


@dataclass(frozen=True)
class Shop:
    """Whose data, and from where: `data` takes the place of the file that the map names for behaviours."""

    tenant: str
    map: Path
    data: Path | None = None

    def sources(self) -> Iterator[tuple[Map, Path]]:
        """Items first. Without a file of their own, items are read from the behaviours' file."""
        behaviors, items = load_map(self.map, "behaviors"), load_map(self.map, "items")
        events = self.data or behaviors.file
        if events is None:
            raise LemoError(
                f"the map {self.map} names no file for behaviors. Give one: make up DATA=my.csv MAP={self.map}"
            )
        if items.section.columns:
            yield items, items.file or events
        yield behaviors, events


async def is_wanted(stores: Stores, shop: Shop) -> bool:
    """The store is empty, or this shop's import has begun: then `load` sees it to its end."""
    if any(_import(stores, shop.tenant, mapped, file).begun() for mapped, file in shop.sources()):
        return True
    if await stores.documents.count(shop.tenant, "items"):
        return False
    topic = stores.settings.events.behavior_topic
    return not any([await stores.log.end(topic, p) for p in range(await stores.log.partitions(topic))])


async def jobs_left(stores: Stores, tenant: str) -> list[str]:
    """The jobs of which nothing is live yet, in the order to run them."""
    live = await stores.registry.live_ids(tenant)
    return [job for job, name in JOBS.items() if name not in live]


async def load(stores: Stores, shop: Shop, tell: Tell, told: Callable[[str], Told]) -> None:
    """Import everything and wait until the flows have applied it."""
    shift: int | None = None
    sources = list(shop.sources())
    for mapped, file in sources:  # the dates of the behaviours decide how far all dates move
        if mapped.kind == "behaviors" and mapped.section.shift_to_yesterday:
            shift = await _import(stores, shop.tenant, mapped, file).shift()
    done: list[tuple[str, Progress]] = []
    for mapped, file in sources:
        job = _import(stores, shop.tenant, mapped, file, shift)
        held = job.begun()
        finished = held is not None and held.done
        progress = held if held and finished else await job.run(told(f"{mapped.kind} from {file.name}"))
        done.append((mapped.kind, progress))
        if progress.rejected and not finished:
            tell(f"{progress.rejected:,} of {progress.rows:,} rows of {file.name} were refused: see {job.rejects}")
    for kind, progress in done:
        await _applied(stores, kind, progress)


def _import(stores: Stores, tenant: str, mapped: Map, file: Path, shift: int | None = None) -> Import:
    rejects = stores.settings.data / "imports" / f"{file.name}.rejects.jsonl"
    return Import(stores, tenant, file, mapped, rejects, history=True, shift_ms=shift)


async def _applied(stores: Stores, kind: str, progress: Progress) -> None:
    events, prefix = stores.settings.events, stores.settings.stores.redis_prefix
    topic = events.item_topic if kind == "items" else events.behavior_topic
    flows = [f for f in FLOWS_OF[kind] if f in stores.settings.streams.flows]
    if not await wait_applied(stores.redis, prefix, flows, appended(progress, topic), APPLY_S):
        raise LemoError(f"the flows {', '.join(flows)} have not applied the {kind} within {APPLY_S:.0f} s; see the log")


def learn(jobs: Sequence[str], tenant: str, follow: FollowJob, tell: Tell) -> None:
    """Run the jobs, one after another. One that fails is told; what it would have made stays absent."""
    for job in jobs:
        tell(f"job {job}")
        try:
            for line in follow(job, ["--tenant", tenant, *FIRST.get(job, ())]):
                tell(f"  {line}")
        except LemoError as e:
            tell(f"  {e.message}")
