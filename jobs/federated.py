"""A model of all stores of a tenant, each in an actor of its own. ray job submit -- python jobs/federated.py"""

from __future__ import annotations

import argparse
import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ray_app.wiring import open_world

if TYPE_CHECKING:
    from ray_app.config import Settings
    from ray_app.training.federated.shop import Shop


def shop(settings: Settings, tenant: str, until: int, store_id: str) -> Shop:
    """In the store's actor."""
    from ray_app.training.federated.shop import Shop, sold

    async def read():  # type: ignore[no-untyped-def]
        async with open_world(settings) as world:
            return await sold(world.documents, tenant, store_id, until)

    return Shop(read)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--ask", default="{}", help="JSON: the arguments of the task train_federated_model")
    args = parser.parse_args()
    from ray_app.training.federated.ask import FederatedAsk
    from ray_app.training.federated.distributed import Actors
    from ray_app.training.federated.federate import federate
    from ray_app.training.runs import recorded

    os.nice(10)
    ask = FederatedAsk.model_validate_json(args.ask)
    async with open_world() as world:

        def opened(names, until):  # type: ignore[no-untyped-def]
            return Actors(names, partial(shop, world.settings, args.tenant, until))

        work = recorded(
            world, args.tenant, "federated", {**ask.model_dump(), "tenant": args.tenant},
            lambda tell: federate(world, args.tenant, tell, opened, ask.plan(), ask.store_id),
        )  # fmt: skip
        print(await work, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
