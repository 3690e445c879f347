"""`lemo up` and `lemo down`: start the whole, load a shop into an empty store, show what came of it, end it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app import config, launch
from ray_app.cli.doors import demo_key
from ray_app.cli.jobs import follow_job
from ray_app.cli.progress import bar, bars, console
from ray_app.cli.show import show, wait_live
from ray_app.cli.world import with_world
from ray_app.operations import load as loading
from ray_app.operations.load import Shop

if TYPE_CHECKING:
    from ray_app.wiring.stores import World


def start_all(shop: Shop | None, http_port: int | None = None, grpc_port: int | None = None) -> int:
    """Stay until Ctrl-C or SIGTERM; the exit status. Without a shop nothing is loaded."""
    settings = config.load()
    settings.data.mkdir(parents=True, exist_ok=True)
    house = launch.House(settings.data, http_port, grpc_port)
    console.print(f"starting; the log is {house.log}")
    return launch.run(house, lambda: _ready(house, shop))


def _ready(house: launch.House, shop: Shop | None) -> None:
    if not house.takes_jobs:
        console.print(
            f"port {launch.JOBS_PORT} is taken, by another Ray cluster on this machine as a rule: "
            "this one answers, but takes no jobs. To train here, stop the other one and start again"
        )
    if shop is not None:
        with_world(lambda world: _load_and_show(world, house, shop))
    doors = f"HTTP {house.url} (docs at /api/v1/docs), gRPC 127.0.0.1:{house.grpc_port}"
    console.print(f"ready: {doors}\nCtrl-C ends it.")


async def _load_and_show(world: World, house: launch.House, shop: Shop) -> None:
    key = demo_key(house.data)
    await _load(world, shop)
    await wait_live(world, shop.tenant, house.url, key)
    await show(world, shop.tenant, house.url, house.grpc_port, key)


async def _load(world: World, shop: Shop) -> None:
    if await loading.is_wanted(world, shop):
        with bars() as shown:
            await loading.load(world, shop, shown.console.print, lambda name: bar(shown, name))
    left = await loading.jobs_left(world, shop.tenant)
    if left:
        await asyncio.to_thread(loading.learn, left, shop.tenant, follow_job, console.print)


def end_all(data: Path) -> int:
    """End what `lemo up` started on this folder; the exit status."""
    ended = launch.end(data)
    print({None: f"nothing runs on {data}", True: f"ended what ran on {data}", False: f"{data} is still in use"}[ended])
    return 1 if ended is False else 0
