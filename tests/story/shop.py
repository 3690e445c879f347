"""A small shop with structure: six shelves of ten items; a customer buys from one shelf and sometimes from the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from ray_app.catalog.scenario import BUILT_IN, Scenario
from ray_app.events.schema import behavior_entry
from ray_app.streams.applied import wait_applied
from ray_app.types import Behavior

if TYPE_CHECKING:
    from ray_app.serving.app import App
    from ray_app.training.report import Report
    from ray_app.wiring.stores import World

WORDS = {
    "tea": "kettle cup saucer leaf infusion",
    "garden": "spade seed rose fence soil",
    "paper": "card envelope ribbon stamp ink",
    "light": "lamp candle lantern bulb wick",
    "bath": "soap towel sponge brush foam",
    "toys": "train puzzle doll marble kite",
}
SHELVES = tuple(WORDS)
EACH = 10
DAY_MS = 86_400_000
CUSTOMERS, WEEKS = 60, 8
PATIENT = {s.id: replace(s, budget_s=5.0) for s in BUILT_IN}  # a busy machine degrades no story
_numbers = count()


def items() -> list[dict[str, Any]]:
    return [
        {
            "item_id": f"{shelf}-{k}",
            "title": f"{words.split()[k % 5]} {words.split()[(k + 1 + k // 5) % 5]} {k}",
            "category": shelf,
            "price": 1.0 + k,
            "published_at": 1_600_000_000_000,
        }
        for shelf, words in WORDS.items()
        for k in range(EACH)
    ]


def history(tenant: str, until: int, random_share: float = 0.1, name: str = "h", seed: int = 0) -> list[Behavior]:
    """Two purchases a week by each customer for WEEKS, the last at `until` (ms)."""
    rng = np.random.default_rng(seed)
    found = []
    for customer in range(CUSTOMERS):
        bought: set[str] = set()
        for k in range(2 * WEEKS):
            item = _taste(customer, rng, random_share)
            while item in bought and len(bought) < EACH:
                item = _taste(customer, rng, random_share)
            bought.add(item)
            at = until - int((2 * WEEKS - 1 - k) * 3.5 * DAY_MS) - (customer * 60_000 if k < 2 * WEEKS - 1 else 0)
            found.append(Behavior(f"{name}-{customer}-{k}", tenant, item, "purchase", at, user_id=f"c{customer}"))
    return sorted(found, key=lambda b: b.occurred_at)


def _taste(customer: int, rng: np.random.Generator, random_share: float) -> str:
    own = customer % len(SHELVES)
    draw = rng.random()
    shelf = rng.integers(len(SHELVES)) if draw < random_share else (own + (draw > 0.8)) % len(SHELVES)
    return f"{SHELVES[shelf]}-{rng.integers(EACH)}"


def shelf_of(item_id: str) -> str:
    return item_id.partition("-")[0]


@dataclass(frozen=True)
class Answer:
    """One answer of the recommend route."""

    body: dict[str, Any]
    ids: list[str] = field(default_factory=list)

    @property
    def shelves(self) -> list[str]:
        return [shelf_of(i) for i in self.ids]


class Shop:
    """One tenant and a client of the HTTP door with its key."""

    def __init__(self, tenant: str, http: httpx.AsyncClient, app: App, world: World) -> None:
        self.tenant, self.http, self.app, self.world = tenant, http, app, world

    async def post(self, path: str, body: object, status: int = 200) -> dict[str, Any]:
        answer = await self.http.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def recommend(self, user: str | None = None, n: int = 10, scenario: str = "home", **more: Any) -> Answer:
        who = {"user_id": user} if user else {}
        body = await self.post("recommend", {"scenario": scenario, "n": n, **who, **more})
        return Answer(body, [i["item_id"] for i in body["items"]])

    async def write(self, wanted: Sequence[dict[str, Any]], wait: bool = True) -> dict[str, Any]:
        return await self.post("items", {"items": list(wanted), "wait": wait})

    def event(self, user: str, item: str, type: str = "click", days_ago: float = 0.0, **more: Any) -> dict[str, Any]:
        at = self.app.clock.now() - int(days_ago * DAY_MS)
        one = {"event_id": f"e{next(_numbers)}", "user_id": user, "item_id": item, "type": type, "occurred_at": at}
        return {**one, **more}

    async def behave(self, *events: dict[str, Any], wait: bool = True) -> dict[str, Any]:
        return await self.post("behaviors", {"behaviors": list(events), "wait": wait})

    async def remember(self, past: Sequence[Behavior]) -> None:
        """Append what happened long ago, as an import does, and wait until every flow has it."""
        topic = self.world.settings.events.behavior_topic
        appended = await self.world.log.append(topic, [behavior_entry(b) for b in past])
        prefixes = self.app.prefixes
        await prefixes.refresh()  # another story may have rewound a flow
        for flow in ("behaviors", "hot", "profile"):
            assert await wait_applied(self.world.redis, prefixes.of(flow), (flow,), appended, 20)

    async def set_scenario(self, scenario: Scenario) -> None:
        await self.app.scenarios.put(self.tenant, scenario)

    async def job(self, name: str) -> Report:
        """What the job script of that name does, in this process."""
        from functools import partial

        from ray_app.training.embed import embed
        from ray_app.training.evaluate import evaluate
        from ray_app.training.precompute import precompute
        from ray_app.training.profiles import profiles
        from ray_app.training.recallers import learn
        from ray_app.training.train import train

        run = {
            "embed": embed,
            "similarity": partial(learn, name="item_cf"),
            "factors": partial(learn, name="factors"),
            "train": train,
            "evaluate": evaluate,
            "precompute": precompute,
            "profiles": profiles,
        }[name]
        return await run(self.world, self.tenant, tell=lambda line: None)

    async def learn(self) -> list[Report]:
        return [await self.job(name) for name in ("embed", "similarity", "train")]

    async def serves(self, versions: dict[str, str]) -> bool:
        """These, and popularity where no ranker is among them."""
        return bool((await self.recommend()).body["versions"] == {"ranker": "popularity", **versions})


async def within(seconds: float, what: Callable[[], Awaitable[object]]) -> float:
    """How long it took until `what` was true. Fails when the time is over."""
    began = time.monotonic()
    while not await what():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began
