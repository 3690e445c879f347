"""Rows without the items that are gone, and every live model anew on them. ray job submit -- python jobs/compact.py"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--least", type=float, default=0.25, help="do nothing where less than this share of rows goes")
    args = parser.parse_args()
    from ray_app.training.compact import compact
    from ray_app.training.runs import recorded

    os.nice(10)
    async with open_world() as world:
        work = recorded(
            world, args.tenant, "compact", vars(args), lambda tell: compact(world, args.tenant, tell, args.least)
        )
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
