"""One answer without the doors: Recommender.recommend in this process, on the retail data with its models and Redis.

Where the time goes: `--profile`. A digest of the answers tells whether a change of the code changed them.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import time
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any

from bench import shop
from ray_app import wiring
from ray_app.catalog.rule import Rules
from ray_app.catalog.scenario import Scenarios
from ray_app.catalog.shelves import Shelves
from ray_app.clock import SystemClock, new_id
from ray_app.config import Settings
from ray_app.features.boards import Boards
from ray_app.recommend import Decision, Parts, Recommender
from ray_app.recommend.ask import Ask
from ray_app.recommend.request_id import RequestIds
from ray_app.registry.watch import Live
from ray_app.wiring.stores import World

COUNT = 1500
DAY_MS = 86_400_000


class DayClock(SystemClock):
    """The day stands still, so that answers can be compared; what is measured goes on."""

    def now(self) -> int:
        return super().now() // DAY_MS * DAY_MS


async def users(world: World, n: int) -> list[str]:
    """Everybody with a profile in Redis, in the order of their names."""
    pattern = "lemo:profile:demo:u:*:recent"
    return sorted({k.decode().split(":")[4] async for k in world.redis.scan_iter(pattern, count=1000)})[:n]


async def ask_all(recommender: Recommender, asked: list[str]) -> tuple[list[Decision], float, float]:
    """The answers, and CPU and wall milliseconds for each."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = [await recommender.decide("demo", Ask("home", 10, user_id=u)) for u in asked]
    n = len(asked) / 1000
    return found, (time.process_time() - cpu) / n, (time.perf_counter() - wall) / n


def digest(slates: list[Decision]) -> str:
    """Of items, channels and reasons; of scores to four places."""
    shown = [
        [(i.item_id, round(i.score, 4), i.channels, i.reason.code, i.reason.text) for i in s.slate.items]
        for s in slates
    ]
    return sha256(json.dumps(shown).encode()).hexdigest()[:12]


def stages(slates: list[Decision]) -> dict[str, float]:
    parts: dict[str, list[float]] = {}
    for s in slates:
        for name, ms in s.stages_ms.items():
            parts.setdefault(name, []).append(ms)
    return {name: round(mean(ms), 3) for name, ms in parts.items()}


async def opened(world: World) -> Recommender:
    """As `wiring.open_app` makes it, but nothing is refreshed while it is measured."""
    settings, live, clock = world.settings, Live(world.registry), DayClock()
    prefix = settings.stores.redis_prefix
    models, boards = await live.refresh("demo"), Boards(world.redis, lambda: prefix, settings.features)
    shelves = Shelves(world.documents, world.vectors, world.redis, prefix, lambda tenant: models.space())
    pinned = (await shelves.of("demo")).pin()
    await boards.refresh("demo", pinned.rows, pinned.n, clock.now())
    scenarios, rules, ids = Scenarios(world.documents, clock), Rules(world.documents, clock), RequestIds(b"bench")
    parts = Parts(
        world.documents, shelves, boards, scenarios, rules, live.of, world.redis, lambda: prefix, clock, ids, new_id
    )
    return Recommender(parts)


async def measure(settings: Settings, profile: bool) -> dict[str, Any]:
    world = wiring.world(settings)
    recommender, asked = await opened(world), await users(world, COUNT)
    await ask_all(recommender, asked[:200])
    runs = [await ask_all(recommender, asked) for _ in range(3)]
    if profile:
        with cProfile.Profile() as found:
            await ask_all(recommender, asked)
        pstats.Stats(found).sort_stats("tottime").print_stats(45)
    await world.close()
    slates, cpu_ms, wall_ms = min(runs, key=lambda r: r[1])
    shown = {"cpu_ms": round(cpu_ms, 3), "wall_ms": round(wall_ms, 3), "stages_ms": stages(slates)}
    return {"users": len(asked), **shown, "digest": digest(slates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shop; made where absent")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    asyncio.run(shop.open_retail(args.data))
    with shop.embedded(args.data) as settings:
        found = asyncio.run(measure(settings, args.profile))
    print(f"{found['cpu_ms']:.2f} ms of CPU an answer, {found['wall_ms']:.2f} ms in all")
    for name, ms in found["stages_ms"].items():
        print(f"{name:12}{ms:8.3f} ms")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
