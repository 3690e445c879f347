"""What the jobs `precompute` and `profiles` make is what clients read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.story.shop import SHELVES, Shop, shelf_of, within

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def popular(shop: Shop, **params: Any) -> dict[str, Any]:
    answer = await shop.http.get("/api/v1/popular", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(found: dict[str, Any]) -> list[str]:
    return [i["item_id"] for i in found["items"]]


async def test_popular_items_are_those_of_this_moment_until_a_job_has_listed_them(shop: Shop) -> None:
    await within(10, lambda: something(shop))
    before = await popular(shop)
    assert (before["scenario"], before["source"], len(ids(before))) == ("home", "hot", 10)
    report = await shop.job("precompute")
    assert report.version, report.why
    after = await popular(shop, n=20, scenario="home")
    assert (after["source"], len(set(ids(after)))) == ("precomputed", 20)
    tea = await popular(shop, category="tea", n=3)
    assert (tea["category"], [shelf_of(i) for i in ids(tea)]) == ("tea", ["tea"] * 3)
    first = ids(after)[0]
    listed = (await shop.http.get(f"/api/v1/items/{first}")).json()
    try:
        await shop.write([{**{k: v for k, v in listed.items() if k != "version"}, "status": "unavailable"}])
        assert first not in ids(await popular(shop, n=200))
    finally:
        await shop.write([{k: v for k, v in listed.items() if k != "version"}])


async def something(shop: Shop) -> bool:
    return bool((await popular(shop))["items"])


async def test_a_user_s_profile_has_what_was_done_lately_and_over_months(shop: Shop) -> None:
    await shop.behave(shop.event("c5", "tea-3"), shop.event("new in town", "bath-1"))
    report = await shop.job("profiles")
    assert report.version, report.why
    found = (await shop.http.get("/api/v1/users/c5/profile")).json()
    assert found["recent"][0]["item_id"] == "tea-3"
    assert found["seen"] >= len(found["recent"]) > 1
    assert set(found["long_term"]["categories"]) <= set(SHELVES)
    assert next(iter(found["long_term"]["categories"])) == SHELVES[5]  # what c5 buys most of
    stranger = (await shop.http.get("/api/v1/users/new in town/profile")).json()
    assert [r["item_id"] for r in stranger["recent"]] == ["bath-1"]


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("popular?scenario=hom", 404, "home, related, buy_again"),
        ("popular?n=201", 400, "1..200"),
        ("popular?n=x", 400, "1..200"),
        (f"popular?category={'c' * 257}", 400, "256 characters"),
        ("users/nobody/profile", 404, "'nobody' has done nothing"),
    ],
)
async def test_what_cannot_be_answered_says_why(shop: Shop, path: str, status: int, named: str) -> None:
    answer = await shop.http.get(f"/api/v1/{path}")
    assert answer.status_code == status
    assert named in str(answer.json())


async def test_another_tenant_sees_neither(new_shop: Shop) -> None:
    assert ids(await popular(new_shop)) == []
    assert (await new_shop.http.get("/api/v1/users/c5/profile")).status_code == 404
