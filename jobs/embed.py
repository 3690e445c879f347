"""Text vectors of every item. ray job submit -- python jobs/embed.py --tenant demo"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--size", type=int, help="dimensions; by the number of items if not given")
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder (needs the extra `text`)")
    args = parser.parse_args()
    from ray_app.training.embed import embed
    from ray_app.training.runs import recorded

    os.nice(10)
    async with open_world() as world:
        asked = {**vars(args), "encoder": str(args.encoder or "")}
        work = recorded(
            world, args.tenant, "embed", asked, lambda tell: embed(world, args.tenant, tell, args.size, args.encoder)
        )
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
