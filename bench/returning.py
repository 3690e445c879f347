"""Does a live history pay? Returning customers of the shipped orders, asked for over HTTP before each later visit.

The shop stands at the cut with its history and models. Then what everybody bought is sent through the HTTP door, day by
day, on a clock that is moved along. Before each visit (a day with purchases) of somebody who had a history at the cut
and has at least two visits after it, the door is asked twice: for a double whose purchases go on being sent, and for
one whose history stays as it was at the cut. Both begin as copies of the customer's profile, under names that no model
has seen, so that the history since the cut is all that differs: before the first of those visits there is none yet.
Wanted is what the visit takes for the first time. The third figure is the frozen one with what was bought since the cut
left out by the ask: what the history does beyond that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import uvicorn

from bench import retail, shop
from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.catalog.scenario import HOME
from ray_app.clock import FixedClock
from ray_app.config import Settings
from ray_app.events.schema import behavior_entry, item_entry
from ray_app.features import profile
from ray_app.models.evaluate import of_each
from ray_app.models.interval import Weights, interval
from ray_app.serving.background import BOARDS_S
from ray_app.serving.http import build
from ray_app.stores.embedded import free_port
from ray_app.streams.applied import wait_applied
from ray_app.types import DAY_MS, Behavior
from ray_app.wiring.stores import World

TENANT, K = "demo", 20
LEAST_VISITS = 2
FLOWS = ("behaviors", "hot", "profile")
ARMS = ("live", "frozen", "frozen, bought left out")
FIGURES = (f"recall@{K}", f"ndcg@{K}")
AIM = 1.1
PATIENT = replace(HOME, budget_s=5.0)  # a busy machine degrades no answer
DONE = "ready.json"  # in the folder of a shop that stands at its cut
AT_ONCE, CHUNK, MOST_S = 8, 1000, 900.0


@dataclass(frozen=True)
class Asked:
    """Before one visit: whose it is, its number after the cut (from 0), what it takes anew, and the lists by arm."""

    user: str
    number: int
    wanted: set[str]
    lists: Mapping[str, Sequence[str]]


@dataclass
class Customers:
    """The returning ones, and what each had bought so far."""

    names: frozenset[str]
    bought: dict[str, set[str]]
    since: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    visits: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, user: str, items: Sequence[str]) -> None:
        """A visit is over."""
        self.visits[user] += 1
        self.since[user] += [i for i in items if i not in self.bought[user]]
        self.bought[user].update(items)


def returning(orders: pd.DataFrame, cut: int, most: int) -> Customers:
    """Customers with a history before the cut and enough visits from it on; the first `most` by name."""
    before, after = orders[orders.occurred_at < cut], orders[orders.occurred_at >= cut]
    visits = after.groupby("user").day.nunique()
    names = sorted(set(visits[visits >= LEAST_VISITS].index) & set(before.user))[:most]
    return Customers(frozenset(names), {u: set(i) for u, i in before.groupby("user").item_id})


def orders() -> pd.DataFrame:
    """As retail.orders, with `user` and `day` (its first ms)."""
    found = retail.orders()
    return found.assign(user=found.visitor.str.removeprefix("u:"), day=found.occurred_at // DAY_MS * DAY_MS)


async def stand(world: World, found: pd.DataFrame, cut: int) -> None:
    """The shop as it was at the cut: items sold by then, the purchases before it, and what the jobs make of them."""
    events = world.settings.events
    items = [item_entry(i) for i in retail.items(cut, TENANT)]
    lines = found[found.occurred_at < cut][["user", "item_id", "occurred_at"]].itertuples(index=True)
    past = [behavior_entry(Behavior(f"p{k}", TENANT, i, "purchase", int(at), user_id=u)) for k, u, i, at in lines]
    appended = [*await world.log.append(events.item_topic, items)]
    assert await wait_applied(world.redis, world.prefixes.of("items"), ("items",), appended, MOST_S)
    appended = [*await world.log.append(events.behavior_topic, past)]
    for flow in FLOWS:
        assert await wait_applied(world.redis, world.prefixes.of(flow), (flow,), appended, MOST_S)
    await shop.learn(world, TENANT)


async def made(data: Path, cut: int, found: pd.DataFrame) -> None:
    """Nothing is done where the folder has the shop."""
    if (data / DONE).exists():
        return
    with shop.embedded(data) as settings:
        async with shop.flowing(settings, FixedClock(cut)) as world:
            await stand(world, found, cut)
    (data / DONE).write_text(json.dumps({"cut": cut}))


class Door(uvicorn.Server):
    """A server of HTTP that says when its port is open."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.open = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.open.set()


@asynccontextmanager
async def doors(settings: Settings, world: World, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the HTTP door, which a server of this process keeps on a port."""
    key, port = await Keys(world.documents, clock).create(TENANT), free_port()
    app = await wiring.open_app(settings, clock)
    await app.scenarios.put(TENANT, PATIENT)
    asgi = build(lambda: app)
    server = Door(uvicorn.Config(asgi, port=port, log_level="error", lifespan="off", timeout_keep_alive=600))
    serving = asyncio.create_task(server.serve())
    await server.open.wait()
    base = f"http://127.0.0.1:{port}/api/v1"
    async with httpx.AsyncClient(base_url=base, headers={"X-API-Key": key}, timeout=60) as http:
        yield http
    server.should_exit = True
    await serving
    await app.close()


async def double(world: World, names: Sequence[str]) -> None:
    """Each profile twice more, as it is now."""
    prefix = world.prefixes.of("profile")
    for name in names:
        for arm in ARMS[:2]:
            pairs = zip(*(profile.keys(prefix, TENANT, f"u:{n}") for n in (name, f"{arm}-{name}")), strict=True)
            for source, copy in pairs:
                await world.redis.copy(source, copy)


class Replay:
    """Days after the cut, sent and asked for over HTTP."""

    def __init__(self, http: httpx.AsyncClient, customers: Customers) -> None:
        self._http, self._customers = http, customers
        self._gate, self._sent = asyncio.Semaphore(AT_ONCE), 0

    async def ask(self, user: str, exclude: Sequence[str] = ()) -> list[str]:
        body = {"scenario": HOME.id, "user_id": user, "n": K, "exclude": list(exclude)[-1000:]}
        async with self._gate:
            answer = (await self._post("recommend", body)).json()
        assert not answer["degraded"], answer["degraded"]
        return [i["item_id"] for i in answer["items"]]

    async def before(self, user: str, taken: Sequence[str]) -> Asked:
        """The lists before a visit that takes these."""
        c = self._customers
        lists = await asyncio.gather(
            self.ask(f"live-{user}"), self.ask(f"frozen-{user}"), self.ask(f"frozen-{user}", c.since[user])
        )
        return Asked(user, c.visits[user], set(taken) - c.bought[user], dict(zip(ARMS, lists, strict=True)))

    async def day(self, of_day: pd.DataFrame) -> list[Asked]:
        """Asks for who comes today, then sends what is bought today."""
        mine = {u: list(i) for u, i in of_day.groupby("user").item_id if u in self._customers.names}
        found = await asyncio.gather(*(self.before(u, taken) for u, taken in mine.items()))
        for user, taken in mine.items():
            self._customers.take(user, taken)
        return [a for a in found if a.wanted]

    async def send(self, of_day: pd.DataFrame) -> None:
        """In the order of time; of a returning customer under the name of the double that goes on."""
        lines = of_day[["user", "item_id", "occurred_at"]].itertuples(index=False)
        named = ((f"live-{u}" if u in self._customers.names else u, i, int(at)) for u, i, at in lines)
        events = [
            {"event_id": f"d{self._sent + k}", "user_id": u, "item_id": i, "type": "purchase", "occurred_at": at}
            for k, (u, i, at) in enumerate(named)
        ]
        self._sent += len(events)
        for k in range(0, len(events), CHUNK):
            answer = await self._post("behaviors?wait=true", {"behaviors": events[k : k + CHUNK]})
            assert not answer.json()["rejected"], answer.text

    async def offer(self, items: Sequence[Mapping[str, Any]]) -> None:
        """What is sold from today on."""
        if items:
            await self._post("items?wait=true", {"items": list(items)})

    async def _post(self, path: str, body: object) -> httpx.Response:
        answer = await self._http.post(f"/{path}", json=body)
        answer.raise_for_status()
        return answer


async def replay(data: Path, cut: int, found: pd.DataFrame, most: int) -> list[Asked]:
    clock, customers, asked = FixedClock(cut), returning(found, cut, most), list[Asked]()
    later = retail.item_table()
    with shop.embedded(data) as settings:
        async with shop.flowing(settings, clock) as world:
            await double(world, sorted(customers.names))
            async with doors(settings, world, clock) as http:
                run = Replay(http, customers)
                for day, of_day in found[found.occurred_at >= cut].groupby("day"):
                    clock.at = int(day)
                    await run.offer([i for i in later if day <= i["published_at"] < day + DAY_MS])
                    await asyncio.sleep(1.5 * BOARDS_S)  # the hot boards of yesterday evening, for both alike
                    asked += await run.day(of_day)
                    clock.at = int(day) + DAY_MS - 1
                    await run.send(of_day)
                    print(f"{np.datetime64(int(day), 'ms').astype('datetime64[D]')}: {len(asked)} visits", flush=True)
    return asked


def of_users(asked: Sequence[Asked], arm: str, figure: str) -> Any:
    """float64 [users], by name: each one's mean over visits."""
    values = of_each([a.wanted for a in asked], [a.lists[arm] for a in asked], K)[figure]
    return pd.Series(values).groupby([a.user for a in asked]).mean().to_numpy()


def ratio_of(over: Any, under: Any) -> Callable[[Weights], float]:
    return lambda w: float(w @ over / (w @ under)) if w @ under else float("nan")


def report(asked: Sequence[Asked], title: str) -> dict[str, Any]:
    """Prints and returns each arm's figures, and how much more the live one has, with 95% over users."""
    users, found = len({a.user for a in asked}), dict[str, Any]()
    print(f"\n{title}: {len(asked)} visits of {users} customers")
    for figure in FIGURES:
        each = {arm: of_users(asked, arm, figure) for arm in ARMS}
        found[figure] = {arm: round(float(values.mean()), 4) for arm, values in each.items()}
        for arm in ARMS[1:]:
            figure_of = ratio_of(each["live"], each[arm])
            low, high = interval(figure_of, users)
            found[figure][f"live / {arm}"] = [round(v, 3) for v in (figure_of(np.ones(users)), low, high)]
        print(f"  {figure}: " + ", ".join(f"{name} {value}" for name, value in found[figure].items()))
    return {"visits": len(asked), "users": users, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut", default="2011-11-01")
    parser.add_argument("--until", default="2012-01-01")
    parser.add_argument("--users", type=int, default=10_000, help="at most so many returning customers")
    parser.add_argument("--data", type=Path, help="folder of the shop at the cut, made where absent; a run copies it")
    args = parser.parse_args()
    cut, found, began = retail.ms(args.cut), orders(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lemo-returning-") as folder:
        base = args.data or Path(folder) / "base"
        base.mkdir(parents=True, exist_ok=True)
        asyncio.run(made(base, cut, found))
        shutil.copytree(base, Path(folder) / "run", symlinks=True)  # as ClickHouse has some
        until = found[found.occurred_at < retail.ms(args.until)]
        asked = asyncio.run(replay(Path(folder) / "run", cut, until, args.users))
    parts = {"every later visit": asked, "from the second on": [a for a in asked if a.number]}
    figures = {title: report(some, title) for title, some in parts.items()}
    said = ", ".join(f"{title} {f[FIGURES[0]]['live / frozen'][0]:.3f}" for title, f in figures.items())
    print(f"\nlive / frozen, {FIGURES[0]}: {said} (aim {AIM})")
    print(json.dumps({"aim": AIM, "seconds": round(time.monotonic() - began), **figures}))


if __name__ == "__main__":
    main()
