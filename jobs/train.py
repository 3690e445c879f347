"""The ranker, from what was taken after moments of the past. ray job submit -- python jobs/train.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--label-days", type=int, default=14, help="length of each slice of time")
    parser.add_argument(
        "--policy", default="live", choices=["live", "shadow", "staged"], help="what a good one becomes"
    )
    parser.add_argument("--dataset", help="its newest build; the live tables unless set")
    args = parser.parse_args()
    from ray_app.training.runs import recorded
    from ray_app.training.train import train

    os.nice(10)
    async with open_world() as world:
        work = recorded(
            world, args.tenant, "train", vars(args),
            lambda tell: train(world, args.tenant, tell, args.label_days, args.policy, args.dataset),
        )  # fmt: skip
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
