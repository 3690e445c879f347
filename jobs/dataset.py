"""Build a dataset by Ray Data. ray job submit -- python jobs/dataset.py --tenant demo --name NAME"""

from __future__ import annotations

import argparse
import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--name", required=True, help="as `lemo dataset define` made it")
    args = parser.parse_args()
    from ray_app.catalog.dataset import Datasets
    from ray_app.training.build import build
    from ray_app.training.distributed import gather
    from ray_app.training.report import Report
    from ray_app.training.runs import recorded

    os.nice(10)
    async with open_world() as world:
        wanted = await Datasets(world.documents, world.clock, args.tenant).get(args.name)

        async def work(tell):  # type: ignore[no-untyped-def]
            page = await build(world, args.tenant, wanted, tell, gather)
            return Report(args.name, page["id"], {"rows": page["rows"]}, status="built")

        print(await recorded(world, args.tenant, "dataset", vars(args), work), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
