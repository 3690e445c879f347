"""Figures of what serves, of its shadow and of the channels. ray job submit -- python jobs/evaluate.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--label-days", type=int, default=14, help="length of the slice of time that judges")
    parser.add_argument("--dataset", help="its newest build; the live tables unless set")
    parser.add_argument("--version", action="append", default=[], help="of the ranker, also; any number of times")
    args = parser.parse_args()
    from ray_app.training.evaluate import Asked, evaluate
    from ray_app.training.runs import recorded

    os.nice(10)
    async with open_world() as world:
        asked = Asked(args.label_days, args.dataset, args.version)
        work = recorded(
            world, args.tenant, "evaluate", vars(args), lambda tell: evaluate(world, args.tenant, tell, asked)
        )
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
