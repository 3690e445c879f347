"""Item-to-item neighbours, as the scenarios name them, in parts over the cluster.

ray job submit -- python jobs/similarity.py --tenant demo
"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--channel", action="append", help="item_cf or covisit; what the scenarios name if not given")
    parser.add_argument("--dataset", help="its newest build; the live tables unless set")
    args = parser.parse_args()
    from ray_app.training.distributed import spread
    from ray_app.training.recallers import learn, named
    from ray_app.training.runs import recorded
    from ray_app.training.similarity import CHANNELS, Sharing

    os.nice(10)
    async with open_world() as world:
        for channel in args.channel or await named(world, args.tenant, CHANNELS):
            work = recorded(
                world, args.tenant, "similarity", {**vars(args), "channel": channel},
                lambda tell, channel=channel: learn(world, args.tenant, channel, tell, Sharing(spread), args.dataset),
            )  # fmt: skip
            print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
