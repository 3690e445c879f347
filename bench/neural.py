"""How soon what a store reports as sold out is gone from the answers of two replicas: from sending the alert over HTTP
until neither answers with the item, as polled. The engine of the flows and the slots are processes of their own;
the two replicas are in this one. `busy`: meanwhile every slot indexes orders, and items are imported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.machine import ROOT
from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.config import Logs, Settings
from ray_app.serving.http import build
from ray_app.stores.embedded import Embedded
from ray_app.tasks.pools import ALL
from ray_app.tasks.task import Submission
from ray_app.wiring.guard import worker

ITEMS, STORE, TENANT = 2000, "store_1", "bench"
LIMIT_S, MOST_S, POLL_S = 1.0, 30.0, 0.005
WARM = 5
IMPORTED = 100  # items of one call of the import


class Doors:
    """The HTTP doors of the two replicas."""

    def __init__(self, clients: list[httpx.AsyncClient]) -> None:
        self.clients = clients

    async def post(self, path: str, body: dict[str, Any], door: int = 0) -> dict[str, Any]:
        answer = await self.clients[door].post(f"/api/v1/{path}", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def shown(self, item: str, door: int) -> bool:
        wanted = [{"field": "item_id", "op": "eq", "value": item}]
        found = await self.post("recommend", {"scenario": "home", "n": 10, "filters": wanted}, door)
        return [i["item_id"] for i in found["items"]] == [item]

    async def until(self, item: str, shown: bool) -> float:
        """Seconds until both say so; infinity after MOST_S."""
        began = time.perf_counter()
        for door in range(len(self.clients)):
            while await self.shown(item, door) is not shown:
                if time.perf_counter() - began > MOST_S:
                    return float("inf")
                await asyncio.sleep(POLL_S)  # a poll of other processes, not a race
        return time.perf_counter() - began

    async def alert(self, id: str, item: str, is_out: bool) -> float:
        """Seconds from the sending until it is gone everywhere, or back."""
        data = {"dish_id": item, "sold_out": is_out}
        began = time.perf_counter()
        await self.post("neural-events", {"event_id": id, "event_type": "inventory.alert", "store_id": STORE,
                                          "event_source": "bench", "data": data})  # fmt: skip
        sent = time.perf_counter() - began
        return sent + await self.until(item, not is_out)


@asynccontextmanager
async def house(data: Path) -> AsyncIterator[tuple[Doors, wiring.World]]:
    """Embedded stores, flows, slots and two replicas."""
    settings = Settings(data=data, logs=Logs(level="ERROR"))
    async with AsyncExitStack() as stack:
        stores = Embedded(data)
        stores.start()
        stack.callback(stores.stop)
        stack.callback(_end, _engine(data))
        hands = worker(settings, ALL)
        hands.start()
        stack.callback(hands.stop)
        world = wiring.world(settings)
        stack.push_async_callback(world.close)
        key, clients = await Keys(world.documents, world.clock).create(TENANT), []
        for _ in range(2):
            app = await wiring.open_app(settings)
            stack.push_async_callback(app.close)
            transport = httpx.ASGITransport(build(lambda app=app: app))  # type: ignore[misc]
            one = httpx.AsyncClient(transport=transport, base_url="http://lemo", headers={"X-API-Key": key}, timeout=60)
            clients.append(await stack.enter_async_context(one))
        yield Doors(clients), world


def _engine(data: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.neural", "--engine", str(data)], cwd=ROOT)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def thing(k: int) -> dict[str, Any]:
    return {"item_id": f"i{k}", "title": f"dish {k} of menu {k % 20}", "category": f"menu {k % 20}"}


@asynccontextmanager
async def load(doors: Doors, world: wiring.World) -> AsyncIterator[None]:
    """Every slot works on orders, and items come one call after another."""
    orders = [{"order_id": f"o{k}", "dishes": [f"i{k % ITEMS}"] * 5} for k in range(20_000)]
    asked = [Submission("batch_index_orders", {"orders": orders[k::8]}, TENANT) for k in range(8)]
    await world.queue.submit(*asked)

    async def imports() -> None:
        for k in count(ITEMS, IMPORTED):
            await doors.post("items", {"items": [thing(n) for n in range(k, k + IMPORTED)]})

    task = asyncio.create_task(imports())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def measure(doors: Doors, name: str, trials: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {"gone": [], "back": []}
    for k in range(-WARM, trials):
        item = f"i{k % ITEMS}"
        gone = await doors.alert(f"{name}-out-{k}", item, True)
        back = await doors.alert(f"{name}-in-{k}", item, False)
        if k >= 0:
            found["gone"].append(gone)
            found["back"].append(back)
    return {f"{name} {what}": summary(those) for what, those in found.items()}


def summary(seconds: list[float]) -> dict[str, Any]:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"trials": len(seconds), "p50_s": round(float(p50), 3), "p99_s": round(float(p99), 3),
            "most_s": round(max(seconds), 3), "limit_s": LIMIT_S}  # fmt: skip


async def run(data: Path, trials: int) -> dict[str, Any]:
    async with house(data) as (doors, world):
        answer = await doors.clients[0].put(f"/api/v1/stores/{STORE}", json={})
        answer.raise_for_status()
        for k in range(0, ITEMS, 500):
            await doors.post("items", {"items": [thing(n) for n in range(k, k + 500)], "wait": True})
        await doors.until("i0", True)
        found = await measure(doors, "idle", trials)
        async with load(doors, world):
            return {**found, **await measure(doors, "busy", trials)}


def serve(data: Path) -> None:
    """Be the engine of the flows, until the process is ended."""
    engine = wiring.engine(Settings(data=data, logs=Logs(level="ERROR")))
    engine.start()
    while engine.alive():
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--engine", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine is not None:
        serve(args.engine)
        return
    with tempfile.TemporaryDirectory(prefix="lemo-neural-") as folder:
        found = asyncio.run(run(Path(folder), args.trials))
    print(f"{'':12}{'trials':>8}{'p50 s':>8}{'p99 s':>8}{'most s':>8}{'limit s':>9}")
    for name, f in found.items():
        print(f"{name:12}{f['trials']:8}{f['p50_s']:8.3f}{f['p99_s']:8.3f}{f['most_s']:8.3f}{f['limit_s']:9}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
