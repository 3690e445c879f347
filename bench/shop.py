"""A shop for the benches: its stores and flows in one folder, loaded and trained as `lemo up` does, without Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from ray_app import wiring
from ray_app.clock import Clock
from ray_app.config import Logs, Settings
from ray_app.launch import ROOT
from ray_app.models.factors import Factors
from ray_app.models.itemcf import ItemCF
from ray_app.operations import load
from ray_app.operations.load import Shop
from ray_app.stores.embedded import Embedded
from ray_app.training.embed import embed
from ray_app.training.recallers import learn as learn_channel
from ray_app.training.report import Report, Tell
from ray_app.training.train import train
from ray_app.wiring.stores import World

EXAMPLE = ROOT / "examples" / "retail" / "map.toml"


async def item_cf(stores: World, tenant: str, tell: Tell) -> Report:
    return await learn_channel(stores, tenant, ItemCF.name, tell)


async def factors(stores: World, tenant: str, tell: Tell) -> Report:
    return await learn_channel(stores, tenant, Factors.name, tell)


JOBS = (embed, item_cf, factors, train)


@contextmanager
def embedded(data: Path) -> Iterator[Settings]:
    """The folder's Redis and ClickHouse run meanwhile."""
    children = Embedded(data)
    children.start()
    try:
        yield Settings(data=data, logs=Logs(level="WARNING"))
    finally:
        children.stop()


@asynccontextmanager
async def flowing(settings: Settings, clock: Clock | None = None) -> AsyncIterator[World]:
    """The opened stores, while every flow runs in threads of this process. `clock`: the machine's unless said."""
    engine, world = wiring.engine(settings), wiring.world(settings, clock)
    engine.start()
    try:
        yield world
    finally:
        engine.stop()
        await world.close()


async def open_retail(data: Path) -> None:
    """The shipped orders in tenant demo, with its models; nothing is done where the folder has them."""
    with embedded(data) as settings:
        async with flowing(settings) as world:
            await load.load(world, Shop("demo", EXAMPLE), print, lambda name: lambda rows, rejected, total: None)
            if len(await world.registry.live_ids("demo")) < len(JOBS):
                await learn(world, "demo")


async def learn(world: World, tenant: str) -> None:
    """The jobs, here."""
    for job in JOBS:
        print(f"{tenant}: {await job(world, tenant, lambda line: None)}", flush=True)
