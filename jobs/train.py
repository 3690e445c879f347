"""The ranker, from what was taken after moments of the past. ray job submit -- python jobs/train.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world
from ray_app.wiring.stores import World

if TYPE_CHECKING:
    from ray_app.training.rankers import Away
    from ray_app.training.report import Tell


RUNS = "runs/train"  # below the tenant's folder of blobs: examples and checkpoints


def away(world: World, args: argparse.Namespace, tell: Tell) -> Away | None:
    from ray_app.training.distributed import fit_far

    folder = f"{args.tenant}/{RUNS}"
    return None if args.here else lambda fit, given, asked: fit_far(fit, given, world.blobs, folder, tell, asked)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--label-days", type=int, default=14, help="length of each slice of time")
    parser.add_argument(
        "--policy", default="live", choices=["live", "shadow", "staged"], help="what a good one becomes"
    )
    parser.add_argument(
        "--here", action="store_true", help="fit in this process, without a worker and checkpoints: quicker where small"
    )
    parser.add_argument("--dataset", help="its newest build, of behaviours or of slates; the live tables unless set")
    args = parser.parse_args()
    from ray_app.training.runs import recorded
    from ray_app.training.train import Plan, train

    os.nice(10)
    async with open_world() as world:
        work = recorded(
            world, args.tenant, "train", vars(args),
            lambda tell: train(
                world, args.tenant, tell, Plan(args.label_days, args.policy, args.dataset, away(world, args, tell))
            ),
        )  # fmt: skip
        print(await work, flush=True)
        world.blobs.remove(f"{args.tenant}/{RUNS}")  # a run that ended has nothing to go on with


if __name__ == "__main__":
    asyncio.run(main())
