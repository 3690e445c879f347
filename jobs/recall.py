"""Factors and two towers, as the scenarios name them. ray job submit -- python jobs/recall.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--channel", action="append", help="factors or two_tower; what the scenarios name if not given")
    args = parser.parse_args()
    from ray_app.training.recallers import learn, named

    os.nice(10)
    async with open_world() as world:
        for channel in args.channel or await named(world, args.tenant, ("factors", "two_tower")):
            print(await learn(world, args.tenant, channel, lambda line: print(line, flush=True)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
