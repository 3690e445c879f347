"""One answer, from its ask to its slate: never empty, never over its budget, never raised."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec import structs

from ray_app.catalog.filter import Filter
from ray_app.catalog.rule import Rules
from ray_app.catalog.scenario import HOME, RELATED, Pin, Scenario, Scenarios
from ray_app.catalog.shelves import Shelves
from ray_app.clock import SystemClock
from ray_app.config import Features
from ray_app.errors import Overloaded, UnknownScenario
from ray_app.events.schema import item_to_dict
from ray_app.features import profile
from ray_app.features.boards import Boards
from ray_app.features.view import NAMES, Moment
from ray_app.models.itemcf import ItemCF
from ray_app.recommend import Parts, Recommender, relieved
from ray_app.recommend.ask import Ask
from ray_app.recommend.explain import explain
from ray_app.recommend.graph import Call, Graph
from ray_app.recommend.remote import Breaker, Remote
from ray_app.recommend.request_id import RequestIds, Shown
from ray_app.recommend.station import ModelServer, Station
from ray_app.registry.registry import Registry
from ray_app.registry.watch import Live, Models
from ray_app.stores.base import Document
from ray_app.stores.blobs import Blobs
from ray_app.stores.memory import MemoryDocuments
from ray_app.stores.redis import connect
from ray_app.stores.sqlite_faiss import SqliteVectors
from ray_app.types import Mask, Scored, Slate, Visitor
from tests.unit.make import DAY_MS, TENANT, behavior, interactions, item

if TYPE_CHECKING:
    from redis.asyncio import Redis

N = 40
CLOCK = SystemClock()
IDS = RequestIds(b"k" * 32)
BOUGHT = [(u, r, 1) for u in range(10) for r in (0, 1, 2)] + [(u, r, 1) for u in range(10, 14) for r in (1, 3)]
CALM = replace(HOME, budget_s=5.0)  # tests of what is answered, not of how fast


@dataclass
class Shop:
    """Forty items in four categories, a visitor who bought i0, and item CF that knows what goes with it."""

    redis: Redis
    documents: MemoryDocuments
    parts: Parts

    async def ask(self, **fields: Any) -> Slate:
        return await Recommender(self.parts).recommend(TENANT, Ask(**{"scenario": "home", "user_id": "1", **fields}))

    async def behave(self, *pairs: tuple[str, str]) -> None:
        for k, (item_id, type) in enumerate(pairs):
            b = behavior(f"e{k}", item_id, CLOCK.now() - 1000 * (len(pairs) - k), type=type)
            for command in profile.writes(b, "p"):
                await self.redis.execute_command(*command)

    async def put(self, scenario: Scenario) -> None:
        await self.parts.scenarios.put(TENANT, scenario)


def ids(slate: Slate) -> list[str]:
    return [i.item_id for i in slate.items]


def why(slate: Slate) -> list[tuple[str, str | None]]:
    return [(d.stage, d.channel) for d in slate.degraded]


def apart(parts: Parts, models: Models, registry: Registry) -> Graph:
    """The stages as other processes have them: what travels is pickled both ways."""
    station, server = Station(CLOCK, lambda tenant: models, parts.shelves, parts.boards), ModelServer(Live(registry))

    def call(work: Callable[[Any], Awaitable[Any]]) -> Call:
        async def answer(ask: Any) -> Any:
            return pickle.loads(pickle.dumps(await work(pickle.loads(pickle.dumps(ask)))))

        return answer

    async def alone(ask: Any) -> Any:
        return (await server.rank([ask]))[0]

    return Graph(call(station.recall), call(alone), call(station.rerank), CLOCK)


@pytest.fixture(params=["inline", "graph"])
async def shop(
    request: pytest.FixtureRequest, documents: MemoryDocuments, redis: Redis, tmp_path: Path
) -> AsyncIterator[Shop]:
    for k in range(N):
        one = item(f"i{k}", category=f"c{k % 4}", price=float(k), published_at=CLOCK.now() - k * DAY_MS)
        await documents.upsert(TENANT, "items", [Document(one.id, 1, {**item_to_dict(one), "row": k})])
    await documents.next_number(TENANT, "rows", N)
    vectors, made = SqliteVectors(tmp_path / "v.db"), count()
    shelves = Shelves(documents, vectors, redis, "p", lambda tenant: None)
    await shelves.of(TENANT)
    models = Models(
        recallers={"item_cf": ItemCF.fit(interactions(BOUGHT, 14, N), CLOCK.now())}, versions={"item_cf": "v"}
    )
    scenarios = Scenarios(documents, CLOCK)
    parts = Parts(
        documents, shelves, Boards(redis, lambda: "p", Features()), scenarios, Rules(documents, CLOCK),
        lambda t: models, redis, lambda: "p", CLOCK, IDS, lambda: f"u{next(made)}",
    )  # fmt: skip
    if request.param == "graph":
        registry = Registry(documents, Blobs(tmp_path / "blobs"), CLOCK)
        parts = replace(parts, stages=apart(parts, models, registry))
    opened = Shop(redis, documents, parts)
    await opened.put(CALM)
    await opened.put(replace(RELATED, budget_s=5.0))
    await opened.behave(("i0", "purchase"))
    yield opened
    await shelves.stop()
    await vectors.close()


async def test_an_answer_has_n_different_items_that_are_not_seen(shop: Shop) -> None:
    slate = await shop.ask(n=10)
    assert len(set(ids(slate))) == 10
    assert "i0" not in ids(slate)
    assert slate.degraded == ()
    assert slate.versions == {"item_cf": "v", "ranker": "popularity"}
    assert (slate.tenant, slate.visitor, slate.scenario) == (TENANT, "u:1", "home")


async def test_what_goes_with_the_visitor_s_item_is_on_top_with_the_reason(shop: Shop) -> None:
    first, second = (await shop.ask(n=10)).items[:2]
    assert {first.item_id, second.item_id} == {"i1", "i2"}
    assert first.channels[0] == "item_cf"
    assert (first.reason.code, first.reason.text) == ("TAKEN_TOGETHER", "Often taken together with title of i0")
    assert len(first.features) == len(NAMES)
    assert first.score >= second.score


async def test_a_request_id_is_new_each_time_and_names_its_scenario(shop: Shop) -> None:
    first, second = [(await shop.ask()).request_id for _ in range(2)]
    assert first != second
    assert IDS.read(first) == Shown("home")


async def test_an_unknown_user_and_an_unknown_context_item_are_no_error(shop: Shop) -> None:
    for fields in ({"user_id": "nobody"}, {"user_id": None}, {"context_item_id": "nobody"}):
        assert len(ids(await shop.ask(**fields))) == 10


async def test_an_unknown_scenario_is_refused(shop: Shop) -> None:
    with pytest.raises(UnknownScenario, match="home, related, buy_again"):
        await shop.ask(scenario="hom")


async def test_a_filter_that_fits_two_items_gets_those_two(shop: Shop) -> None:
    slate = await shop.ask(n=10, filters=(Filter("category", "eq", "c1"), Filter("price", "gte", 30.0)))
    assert set(ids(slate)) == {"i33", "i37"}


async def test_related_items_are_near_the_one_that_is_looked_at_whoever_asks(shop: Shop) -> None:
    slate = await shop.ask(scenario="related", context_item_id="i3", user_id="1", n=5)
    assert ids(slate)[0] == "i1"
    assert "i3" not in ids(slate)
    assert len(ids(slate)) == 5


async def test_pins_and_hidden_items_are_the_operator_s(shop: Shop) -> None:
    pins = (Pin("i20", 0), Pin("i0", 3), Pin("i9", 1))
    await shop.put(replace(CALM, pins=pins, hidden=frozenset({"i1", "i9"})))
    slate = await shop.ask(n=6)
    assert (ids(slate)[0], ids(slate)[3]) == ("i20", "i0")  # also one that the visitor has seen
    assert not {"i1", "i9"} & set(ids(slate))
    assert slate.items[0].channels == ("pinned",)
    assert slate.items[0].reason.code == "PINNED"


async def test_a_pin_keeps_its_position_where_the_fallback_fills_the_slate(shop: Shop) -> None:
    await shop.put(replace(CALM, channels={"buy_again": HOME.channels["hot"]}, pins=(Pin("i20", 4),)))
    slate = await shop.ask(n=6)
    assert ids(slate).index("i20") == 4
    assert len(set(ids(slate))) == 6


async def test_excluded_items_are_not_there(shop: Shop) -> None:
    assert not {"i1", "i2"} & set(ids(await shop.ask(n=30, exclude=("i1", "i2"))))


async def test_seen_items_fill_the_slate_only_when_nothing_else_is_left(shop: Shop) -> None:
    await shop.behave(*((f"i{k}", "click") for k in range(N - 2)))
    slate = await shop.ask(n=5)
    assert set(ids(slate)[:2]) == {"i38", "i39"}
    assert [i.reason.code for i in slate.items[2:]] == ["SEEN"] * 3
    assert why(slate) == [("recall", None)]


async def test_nothing_is_eligible(shop: Shop) -> None:
    assert ids(await shop.ask(filters=(Filter("category", "eq", "none"),))) == []


async def test_without_a_state_store_the_answer_degrades_and_says_why(shop: Shop, redis_server: Any) -> None:
    redis_server.stop()
    slate = await shop.ask(n=10)
    assert len(ids(slate)) == 10
    assert why(slate) == [("profile", None)]


class Far:
    """A channel of another process: it hangs, or finds i30."""

    hangs = False

    async def __call__(self, who: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
        if self.hangs:
            await asyncio.sleep(10)
        return Scored("far", np.array([30], np.int32), np.ones(1, np.float32))


def with_far(shop: Shop, far: Far) -> Recommender:
    channel = Remote(far, Breaker(CLOCK), most_s=0.03)
    return Recommender(replace(shop.parts, remote={"far": channel}))


async def asked(recommender: Recommender, times: int) -> Sequence[Slate]:
    return [await recommender.recommend(TENANT, Ask("home", user_id="1")) for _ in range(times)]


async def test_a_channel_of_another_process_takes_part(shop: Shop) -> None:
    await shop.put(replace(CALM, channels={**HOME.channels, "far": HOME.channels["item_cf"]}))
    (slate,) = await asked(with_far(shop, Far()), 1)
    assert ("far",) in {i.channels[:1] for i in slate.items}
    assert "i30" in ids(slate)


async def test_a_channel_that_hangs_costs_no_answer_its_items(shop: Shop) -> None:
    await shop.put(replace(CALM, channels={**HOME.channels, "far": HOME.channels["item_cf"]}))
    far = Far()
    far.hangs = True
    slates = await asyncio.wait_for(asked(with_far(shop, far), 100), 10)
    assert {len(s.items) for s in slates} == {10}
    assert {tuple(why(s)) for s in slates} == {(("recall", "far"),)}


async def test_a_decision_tells_where_the_time_went(shop: Shop) -> None:
    decision = await Recommender(shop.parts).decide(TENANT, Ask("home", user_id="1"))
    assert list(decision.stages_ms) == ["profile", "recall", "features", "rank", "rerank"]


async def test_a_session_is_answered_like_a_user(shop: Shop) -> None:
    b = structs.replace(behavior("s", "i3", CLOCK.now()), user_id=None, session_id="x")
    for command in profile.writes(b, "p"):
        await shop.redis.execute_command(*command)
    slate = await shop.ask(user_id=None, session_id="x", n=3)
    assert (ids(slate)[0], slate.visitor) == ("i1", "s:x")


async def test_the_connection_to_the_state_store_is_made_at_the_first_use(shop: Shop) -> None:
    away = connect("redis://127.0.0.1:9/0")
    slate = await Recommender(replace(shop.parts, redis=away)).recommend(TENANT, Ask("home", user_id="1"))
    assert why(slate) == [("profile", None)]
    assert len(ids(slate)) == 10
    await away.aclose()


@pytest.mark.parametrize(("in_hand", "candidates"), [(1, 200), (16, 200), (32, 100), (64, 50), (900, 50)])
def test_under_load_fewer_candidates_are_ranked(in_hand: int, candidates: int) -> None:
    assert relieved(HOME, in_hand).candidates == candidates


async def test_beyond_what_it_can_hold_a_request_is_refused_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_app.recommend.MOST_OPEN", 0)
    with pytest.raises(Overloaded, match="allowed: 0"):
        await shop.ask(n=1)


async def test_a_pin_beyond_the_answer_is_no_pin(shop: Shop) -> None:
    (first,) = (await shop.ask(n=1)).items
    await shop.put(replace(CALM, pins=(Pin(first.item_id, 5),)))
    (again,) = (await shop.ask(n=1)).items
    assert (again.item_id, again.reason.code) == (first.item_id, first.reason.code)


@pytest.mark.parametrize("hidden", [frozenset(), frozenset(f"i{k}" for k in range(N) if k not in (1, 3))])
async def test_a_pinned_item_that_other_pins_push_out_lost_to_them(shop: Shop, hidden: frozenset[str]) -> None:
    """Also where nothing but the pinned is a candidate."""
    await shop.put(replace(CALM, pins=(Pin("i1", 0), Pin("i3", 0)), hidden=hidden))
    ask = Ask("home", n=1, user_id="1")
    decision = await Recommender(shop.parts).decide(TENANT, ask)
    (first,) = ids(decision.slate)
    (other,) = {"i1", "i3"} - {first}
    why = explain(decision, ask, other)
    assert (why["verdict"], why["by"]) == ("lost", "pins")
    assert repr(first) in why["why"]
