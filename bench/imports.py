"""500,000 rows into the log as `lemo import behaviors --history` does, and until the flows have applied them."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import shop
from ray_app import wiring
from ray_app.operations.load import FLOWS_OF
from ray_app.operations.mapping import load_map
from ray_app.operations.move import Import, Progress, appended
from ray_app.streams.applied import wait_applied
from ray_app.wiring.stores import World

LIMIT_S = 60.0
APPLY_S = 600.0


def repeated(into: Path, rows: int) -> Path:
    """The shipped orders again and again; the map makes event ids of row numbers, so that none repeats."""
    with gzip.open(shop.EXAMPLE.parent / "orders.csv.gz", "rt") as lines:
        head, *orders = lines.readlines()
    file = into / "orders.csv.gz"
    with gzip.open(file, "wt", compresslevel=1) as out:
        out.write(head)
        out.writelines(orders[k % len(orders)] for k in range(rows))
    return file


async def imported(world: World, file: Path) -> tuple[Progress, float]:
    rejects = file.with_suffix(".rejects")
    job = Import(world, "demo", file, load_map(shop.EXAMPLE, "behaviors"), rejects, history=True)
    began = time.monotonic()
    return await job.run(), time.monotonic() - began


async def applied(world: World, progress: Progress) -> float:
    """Seconds until every flow stands behind every row."""
    began = time.monotonic()
    events = appended(progress, world.settings.events.behavior_topic)
    done = await wait_applied(world.redis, world.settings.stores.redis_prefix, FLOWS_OF["behaviors"], events, APPLY_S)
    return time.monotonic() - began if done else float("inf")


async def measure(data: Path, rows: int) -> dict[str, Any]:
    """The import alone, as when the flows run on other machines, and then the flows alone."""
    with shop.embedded(data) as settings:
        file, world = repeated(data, rows), wiring.world(settings)
        progress, import_s = await imported(world, file)
        await world.close()
        async with shop.flowing(settings) as flowing:
            applied_s = await applied(flowing, progress)
    return {"rows": progress.rows, "rejected": progress.rejected, "import_s": round(import_s, 1),
            "rows_per_s": round(progress.rows / import_s), "applied_s": round(applied_s, 1),
            "applied_per_s": round(progress.rows / applied_s), "limit_s": LIMIT_S}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemo-imports-") as folder:
        found = asyncio.run(measure(Path(folder), args.rows))
    print(f"{'':28}{'s':>8}{'rows/s':>10}{'limit s':>9}")
    print(f"{'import of ' + format(found['rows'], ','):28}{found['import_s']:8}{found['rows_per_s']:10,}{LIMIT_S:9}")
    print(f"{'the flows have applied them':28}{found['applied_s']:8}{found['applied_per_s']:10,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
