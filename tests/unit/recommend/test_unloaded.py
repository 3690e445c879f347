"""While a tenant's catalogue is still loading: the popular list that a job made, as the documents know its items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ray_app.catalog import lists, sold_out
from ray_app.catalog.reranking import Exploration
from ray_app.catalog.rule import HIDE, Rule
from ray_app.catalog.scenario import Pin
from ray_app.catalog.shelves import Shelves
from ray_app.errors import Unavailable
from ray_app.events.schema import item_to_dict
from ray_app.recommend import Recommender, popular
from ray_app.recommend.ask import Ask, Filter
from ray_app.recommend.explain import explain
from ray_app.stores.base import Document
from ray_app.stores.memory import MemoryDocuments
from ray_app.types import Slate
from tests.unit.make import TENANT, item
from tests.unit.recommend.test_recommender import CALM, CLOCK, Shop, ids, shop, why

__all__ = ["shop"]
LISTED = ("i7", "gone", "i3", "i0", "i5", "i9", "i30")
LOADING = [("catalog", None), ("recall", None)]


class Slow(MemoryDocuments):
    """A store that never answers."""

    async def find(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(60)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(60)


@pytest.fixture
async def loading(shop: Shop) -> AsyncIterator[Shop]:
    """The shop in a replica whose shelf never comes."""
    await shop.put(replace(CALM, budget_s=0.6))
    shelves = Shelves(Slow(CLOCK), shop.parts.shelves._vectors, shop.redis, "p", lambda tenant: None)
    yield replace(shop, parts=replace(shop.parts, shelves=shelves))
    await shelves.stop()


async def listed(shop: Shop, *items: str) -> None:
    await shop.documents.upsert(TENANT, lists.KIND, [lists.document("home", "", items, 7)])


async def ask(shop: Shop, **fields: Any) -> Slate:
    return await Recommender(shop.parts).recommend(TENANT, Ask("home", user_id="1", **fields))


async def test_the_popular_list_answers_without_what_the_visitor_has_seen(loading: Shop) -> None:
    await listed(loading, *LISTED)
    began = CLOCK.monotonic()
    slate = await ask(loading, n=4)
    assert CLOCK.monotonic() - began < 5
    assert ids(slate) == ["i7", "i3", "i5", "i9"]  # i0 was bought, and "gone" is no item
    assert {(i.channels, i.reason.code, i.features) for i in slate.items} == {(("hot",), "POPULAR", ())}
    assert (why(slate), slate.versions) == (LOADING, {})
    assert "popular list" in slate.degraded[1].reason


async def test_what_may_not_be_shown_stays_out(loading: Shop) -> None:
    await listed(loading, *LISTED)
    off = replace(item("i7", category="c3"), status="unavailable")
    await loading.documents.upsert(TENANT, "items", [Document("i7", 2, {**item_to_dict(off), "row": 7})])
    await loading.put(replace(CALM, budget_s=0.6, hidden=frozenset({"i3"}), pins=(Pin("i20", 1),)))
    await loading.parts.rules.put(TENANT, Rule("r", HIDE, (Filter("item_id", "eq", "i9"),)))
    slate = await ask(loading, n=4)
    assert ids(slate)[:3] == ["i5", "i20", "i30"]  # the pin is no item of the list
    assert [i.reason.code for i in slate.items[3:]] == ["SEEN"]
    assert ids(await ask(loading, filters=(Filter("category", "eq", "c2"),))) == ["i30"]
    assert ids(await ask(loading, exclude=("i5", "i20", "i30", "i0"))) == []


async def test_what_is_sold_out_stays_out(loading: Shop) -> None:
    await listed(loading, *LISTED)
    said = sold_out.SoldOut(loading.documents, loading.redis, "p")
    await said.say(TENANT, [sold_out.Statement("i7", True, 1), sold_out.Statement("i3", False, 1)])
    assert ids(await ask(loading, n=3)) == ["i3", "i5", "i9"]


async def test_what_is_drawn_by_chance_is_drawn_for_each_answer_anew(loading: Shop) -> None:
    await listed(loading, *(f"i{k}" for k in range(1, 40)))
    await loading.put(replace(CALM, budget_s=0.6, exploration=Exploration(1.0)))
    answers = [await ask(loading, n=10) for _ in range(3)]
    assert len({tuple(ids(slate)) for slate in answers}) == 3
    assert all(0 < i.propensity < 1 for slate in answers for i in slate.items)


async def test_before_there_is_a_list_some_items_answer(loading: Shop) -> None:
    slate = await ask(loading, n=10)
    assert len(set(ids(slate))) == 10
    assert "i0" not in ids(slate)
    assert why(slate) == LOADING
    assert {i.reason.code for i in slate.items} == {"FALLBACK"}


async def test_nothing_is_shown_in_time_where_the_documents_do_not_answer_either(loading: Shop) -> None:
    parts, ask = replace(loading.parts, documents=Slow(CLOCK)), Ask("home", user_id="1")
    began = CLOCK.monotonic()
    decision = await Recommender(parts).decide(TENANT, ask)
    assert CLOCK.monotonic() - began < 5
    assert (ids(decision.slate), why(decision.slate)) == ([], [("catalog", None)])
    with pytest.raises(Unavailable, match="'i1' cannot be explained: the catalogue is still loading"):
        explain(decision, ask, "i1")


class Away(MemoryDocuments):
    async def get(self, *args: Any, **kwargs: Any) -> Any:
        raise Unavailable("documents are away")


async def test_documents_that_are_away_are_no_error(loading: Shop) -> None:
    slate = await Recommender(replace(loading.parts, documents=Away(CLOCK))).recommend(TENANT, Ask("home"))
    assert (ids(slate), why(slate)) == ([], [("catalog", None)])


async def test_the_list_by_itself_is_what_may_be_shown_now_of_it(shop: Shop, loading: Shop) -> None:
    """With the shelf and without it."""
    await listed(shop, *LISTED)
    await shop.documents.upsert(TENANT, lists.KIND, [lists.document("home", "c3", ("i7", "i30", "i3"), 8)])
    await shop.put(replace(CALM, budget_s=0.6, hidden=frozenset({"i3"})))
    await shop.parts.rules.put(TENANT, Rule("r", HIDE, (Filter("item_id", "eq", "i9"),)))
    for one in (shop, loading):
        recommender = Recommender(one.parts)
        assert await recommender.popular(TENANT, "home") == (["i7", "i0", "i5", "i30"], 7)
        assert await recommender.popular(TENANT, "home", "c3") == (["i7"], 8)  # i30 has moved to c2 since


async def test_without_a_list_the_hot_score_of_this_moment_counts(
    shop: Shop, loading: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = CLOCK.now() // 1000 // 300
    await shop.redis.hset(f"p:hot:{TENANT}:-:{bucket}", mapping={"i4": 3, "i6": 9, "i8": 5})
    pinned = (await shop.parts.shelves.of(TENANT)).pin()
    await shop.parts.boards.refresh(TENANT, pinned.rows, pinned.n, CLOCK.now())
    assert await Recommender(shop.parts).popular(TENANT, "home") == (["i6", "i8", "i4"], None)
    assert await Recommender(shop.parts).popular(TENANT, "home", "c2") == (["i6"], None)
    with pytest.raises(Unavailable, match="still loading, and the job precompute has made no list of this"):
        await Recommender(loading.parts).popular(TENANT, "home")
    monkeypatch.setattr(popular, "MOST", 2)  # however many are hot
    assert await Recommender(shop.parts).popular(TENANT, "home") == (["i6", "i8"], None)
