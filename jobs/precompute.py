"""Lists made beforehand. ray job submit -- python jobs/precompute.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    args = parser.parse_args()
    from ray_app.training.precompute import precompute
    from ray_app.training.runs import recorded

    os.nice(10)
    async with open_world() as world:
        work = recorded(world, args.tenant, "precompute", vars(args), lambda tell: precompute(world, args.tenant, tell))
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
