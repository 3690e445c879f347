"""What a new version costs who asks meanwhile: p99 in the 10 s around a swap beside that of the minute before.

The retail shop runs as `lemo up` starts it, under an open loop at half of the rate that it sustains. Copies of the live
version were registered beforehand; every minute and a bit one of them is promoted, which is all that happens then. The
moment of a swap is that at which an answer names the new version. The load and the system share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from bench.serve import MOST_CONNECTIONS, PATH, Variant, measure, of_retail, running
from ray_app import wiring
from ray_app.config import Settings
from ray_app.launch import ROOT
from ray_app.registry.version import Version
from ray_app.wiring.stores import World

TENANT = "demo"
NAMES = ("ranker", "item_cf")  # a small one, and one whose neighbours are mapped and warmed up
BEFORE_S, AROUND_S = 60.0, 5.0
MOST_RATIO = 2.0
POLL_S, MOST_S = 0.05, 60.0
TAKES_S = 8.0  # a swap, or less: for as long more the load goes on


@dataclass(frozen=True)
class Swap:
    """p99 (ms) of what was due in the minute before and in the 10 s around; `took_s`: from the promotion until an
    answer named the new version."""

    name: str
    before_ms: float
    around_ms: float
    ratio: float
    took_s: float


def loaded(plan: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """An open loop in a process of its own (bench.load), to its end: when each request was due, in seconds of
    time.perf_counter, how long its answer took from then on (ms), and errors."""
    line = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(line, input=json.dumps(plan), stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    return np.array(found["due"]), np.array(found["ms"]), int(found["errors"])


async def copies(world: World, name: str, count: int) -> list[Version]:
    """Of the live version, staged."""
    live = await world.registry.live(TENANT, name)
    assert live is not None, f"no {name} is live"
    parts = await world.registry.load(TENANT, live)
    files: dict[str, Any] = dict(parts)  # an array, or the path of a file of another format
    owned = {k: v.read_bytes() if isinstance(v, Path) else np.array(v) for k, v in files.items()}
    return [
        await world.registry.register(TENANT, name, owned, live.metrics, live.about, live.covers) for _ in range(count)
    ]


async def promoted(world: World, door: httpx.AsyncClient, version: Version) -> tuple[float, float]:
    """The moment of the swap (s), and how long it took."""
    began = time.perf_counter()
    await world.registry.promote(TENANT, version)
    while True:
        answer = await door.post(PATH, json={"scenario": "home", "n": 1})
        now = time.perf_counter()
        if answer.raise_for_status().json()["versions"][version.name] == version.id:
            return now, now - began
        assert now - began < MOST_S, f"{version.id} was not taken up within {MOST_S} s"
        await asyncio.sleep(POLL_S)  # a poll of another process, not a race


async def swaps(house: Variant, key: str, staged: Sequence[Version]) -> list[tuple[str, float, float]]:
    """Promotes one after another, each after a minute without a swap: (name, moment, took)."""
    found, world = [], wiring.world(Settings(data=house.data))
    async with httpx.AsyncClient(base_url=house.url, headers={"X-API-Key": key}, timeout=30) as door:
        for version in staged:
            await asyncio.sleep(BEFORE_S + 2 * AROUND_S)
            found.append((version.name, *await promoted(world, door, version)))
            print(f"{version.name}: {version.id} serves after {found[-1][2]:.2f} s", file=sys.stderr)
    await asyncio.sleep(2 * AROUND_S)
    await world.close()
    return found


async def stage(data: Path, names: Sequence[str], count: int) -> list[Version]:
    world = wiring.world(Settings(data=data))
    try:
        return [v for name in names for v in await copies(world, name, count)]
    finally:
        await world.close()


def of_swap(name: str, at: float, took_s: float, due: NDArray[np.float64], ms: NDArray[np.float64]) -> Swap:
    before = ms[(due >= at - AROUND_S - BEFORE_S) & (due < at - AROUND_S)]
    around = ms[(due >= at - AROUND_S) & (due < at + AROUND_S)]
    slow_before, slow_around = (round(float(np.percentile(some, 99)), 2) for some in (before, around))
    return Swap(name, slow_before, slow_around, round(slow_around / slow_before, 2), round(took_s, 2))


def run(data: Path, names: Sequence[str], count: int, rate: float) -> dict[str, Any]:
    asks, house = of_retail(data), Variant(data)
    with running(house):
        key = (data / "demo.key").read_text().strip()
        keyed = [(k or key, body) for k, body in asks]
        rate = rate or measure(house, keyed, 6.0).half.rate
        staged = asyncio.run(stage(data, names, count))
        seconds = len(staged) * (BEFORE_S + 2 * AROUND_S + TAKES_S) + 2 * AROUND_S
        plan = {"host": "127.0.0.1", "port": house.http_port, "path": PATH, "asks": keyed, "rate": rate,
                "seconds": seconds, "connections": MOST_CONNECTIONS}  # fmt: skip
        with ThreadPoolExecutor(1) as beside:
            load = beside.submit(loaded, plan)
            found = asyncio.run(swaps(house, key, staged))
            due, ms, errors = load.result()
    each = [of_swap(*one, due, ms) for one in found]
    return {"rate": rate, "errors": errors, "answers": len(ms), "swaps": [asdict(s) for s in each],
            "median": {n: median(s.ratio for s in each if s.name == n) for n in names}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the shop, made where absent; a temporary one unless set")
    parser.add_argument("--names", nargs="+", default=list(NAMES), help="of the models that are swapped")
    parser.add_argument("--swaps", type=int, default=5, help="of each")
    parser.add_argument("--rate", type=float, default=0.0, help="of the load, in /s; measured unless set")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemo-swap-") as folder:
        found = run(args.data or Path(folder), args.names, args.swaps, args.rate)
    print(f"{found['rate']} answers a second, {found['errors']} errors")
    print(f"{'':12}{'before p99':>12}{'around p99':>12}{'ratio':>8}{'took s':>8}")
    for s in found["swaps"]:
        print(f"{s['name']:12}{s['before_ms']:12}{s['around_ms']:12}{s['ratio']:8}{s['took_s']:8}")
    print("median: " + ", ".join(f"{name} {r:.2f}" for name, r in found["median"].items()) + f" (limit {MOST_RATIO})")
    print(json.dumps({"limit": MOST_RATIO, **found}))


if __name__ == "__main__":
    main()
