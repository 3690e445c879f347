"""Item-to-item neighbours, in parts over the cluster. ray job submit -- python jobs/similarity.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--dataset", help="its newest build; the live tables unless set")
    args = parser.parse_args()
    from ray_app.training.distributed import spread
    from ray_app.training.runs import recorded
    from ray_app.training.similarity import similarity

    os.nice(10)
    async with open_world() as world:
        work = recorded(
            world, args.tenant, "similarity", vars(args),
            lambda tell: similarity(world, args.tenant, tell, spread, dataset=args.dataset),
        )  # fmt: skip
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
