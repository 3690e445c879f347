"""What was answered teaches: answers given, seen and clicked three weeks ago, and a training of today."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import pytest_asyncio

from ray_app import wiring
from ray_app.access.keys import Keys
from ray_app.catalog.dataset import Datasets, parse
from ray_app.clock import FixedClock, SystemClock
from ray_app.config import Settings
from ray_app.errors import Unavailable
from ray_app.features.view import IDENTITY, NAMES, VIEW
from ray_app.models.base import Arrays
from ray_app.registry.watch import RANKER
from ray_app.serving.http import build
from ray_app.stores.olap import Olap
from ray_app.training.build import build as build_dataset
from ray_app.training.logged import LEAST
from ray_app.training.rankers import Fit
from ray_app.training.report import Report
from ray_app.training.train import Plan, train
from ray_app.wiring.stores import World
from tests.story.shop import CUSTOMERS, DAY_MS, PATIENT, Shop, history, items, shelf_of, within

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.long]
AGO_MS, ROUNDS = 20 * DAY_MS, 4  # before the slice that judges, and one more round of answers within it
SHOWN = (
    "SELECT request_id, items, versions FROM slates FINAL WHERE tenant = {t:String} ORDER BY answered_at, request_id"
)


class Worker:
    """Fits the neural rankers here, and keeps what the first fit was given: that of the winner's contest."""

    def __init__(self) -> None:
        self.given: list[Arrays] = []

    def __call__(self, fit: Fit, given: Arrays, asked: object) -> Arrays:
        self.given.append(given)
        return fit(given, lambda state: None, None)


class Slow(Olap):
    """Answers in time but for logged answers."""

    async def columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if "FROM slates" in sql:
            raise Unavailable("took too long")
        return await super().columns(sql, parameters)


@pytest_asyncio.fixture(loop_scope="session")
async def old_shop(settings: Settings) -> AsyncIterator[tuple[Shop, FixedClock]]:
    """A shop of three weeks ago, with a history until then; its clock stands still until it is moved."""
    clock = FixedClock(SystemClock().now() - AGO_MS)
    world, app = wiring.world(settings, clock), await wiring.open_app(settings, clock)
    key = {"X-API-Key": await Keys(world.documents, clock).create("of-old")}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build(lambda: app)), base_url="http://lemo") as http:
        http.headers.update(key)
        shop = Shop("of-old", http, app, world)
        for scenario in PATIENT.values():
            await shop.set_scenario(scenario)
        await shop.write(items())
        yield shop, clock
    await app.close()
    await world.close()


async def look(shop: Shop, customer: int) -> None:
    """An answer of which the first five are seen, and the one of the customer's shelf is clicked."""
    user, about = f"c{customer}", {"scenario": "home"}
    answer = await shop.recommend(user, n=8)
    about["request_id"] = answer.body["request_id"]
    liked = [i for i in answer.ids[:5] if shelf_of(i) == shelf_of(items()[customer % 6 * 10]["item_id"])]
    clicked = [shop.event(user, i, "click", **about) for i in (liked or answer.ids)[:1]]
    await shop.behave(*(shop.event(user, i, "impression", **about) for i in answer.ids[:5]), *clicked, wait=False)


async def rounds(shop: Shop, clock: FixedClock, count: int) -> None:
    for _ in range(count):
        for customer in range(CUSTOMERS):
            clock.pass_s(2)
            await look(shop, customer)
    await shop.app.slates.flush()


async def tabled(shop: Shop, sql: str, n: int) -> bool:
    return bool((await shop.world.olap.query(sql, {"t": shop.tenant}))[0]["n"] >= n)


async def trained(world: World, tenant: str, plan: Plan) -> tuple[Report, list[str]]:
    said: list[str] = []
    return await train(world, tenant, said.append, plan), said


def groups(given: Arrays) -> dict[bytes, bytes]:
    """The features of each request, to the bit, by the rows of its candidates."""
    found = {}
    for features, rows, there in zip(given["features"], given["rows"], given["there"], strict=True):
        found[rows[there].tobytes() + features[there].tobytes()] = features[there].tobytes()
    return found


async def test_a_fit_gets_the_features_of_logged_answers_to_the_bit(old_shop: tuple[Shop, FixedClock]) -> None:
    shop, clock = old_shop
    await shop.remember(history(shop.tenant, clock.now() - 1000))
    for job in ("embed", "similarity"):
        assert (await shop.job(job)).version
    await rounds(shop, clock, ROUNDS)
    clock.at = SystemClock().now() - 8 * DAY_MS
    await rounds(shop, clock, ROUNDS)
    clock.at = SystemClock().now()
    await shop.remember(history(shop.tenant, clock.now() - 1000, name="later", seed=1))
    answers, behaviors = 2 * ROUNDS * CUSTOMERS, 2 * 16 * CUSTOMERS + 2 * ROUNDS * CUSTOMERS * 6
    await within(20, lambda: tabled(shop, "SELECT count() n FROM slates FINAL WHERE tenant = {t:String}", answers))
    await within(20, lambda: tabled(shop, "SELECT count() n FROM behaviors FINAL WHERE tenant = {t:String}", behaviors))

    worker = Worker()
    report, said = await trained(shop.world, shop.tenant, Plan(policy="staged", away=worker))
    assert report.version, report.why
    assert (
        f"history teaches, and {ROUNDS * CUSTOMERS} logged answers; something was taken of {ROUNDS * CUSTOMERS}" in said
    )
    assert {"slates_auc", "slates_gauc", "slates_gauc_low"} <= set(report.metrics)
    about = (await shop.world.registry.get(shop.tenant, RANKER, report.version)).about
    assert about["slates"] == {
        "source": "slates", "answers": ROUNDS * CUSTOMERS, "taken": ROUNDS * CUSTOMERS, "other_view": 0
    }  # fmt: skip

    shown = await shop.world.olap.query(SHOWN, {"t": shop.tenant})
    assert {orjson.loads(s["versions"])[VIEW] for s in shown} == {IDENTITY}
    pinned = (await shop.app.shelves.of(shop.tenant)).pin()
    fitted, judged = groups(worker.given[0]), 0
    for k, slate in enumerate(shown):
        seen = [i for i in orjson.loads(slate["items"])[:5] if i["features"]]
        features = np.float32([i["features"] for i in seen])
        assert features.shape[1] == len(NAMES)
        rows = np.array([pinned.rows[i["item_id"]] for i in seen], np.int32)
        wanted = rows.tobytes() + features.tobytes()
        assert (wanted in fitted) == (k < ROUNDS * CUSTOMERS), "only answers before the judging slice teach"
        judged += wanted not in fitted
    assert judged == ROUNDS * CUSTOMERS >= LEAST

    again = await of_a_dataset(shop)
    assert groups(again.given[0]) == fitted

    report, said = await trained(
        replace(shop.world, olap=Slow(shop.world.olap.url)), shop.tenant, Plan(policy="staged")
    )
    assert report.version, report.why
    assert "logged answers cannot be read, history alone teaches: took too long" in said


async def of_a_dataset(shop: Shop) -> Worker:
    """A build of slates teaches the same as their table."""
    wanted = parse({"name": "shown", "source": "slates", "days": 90})
    wanted = await Datasets(shop.world.documents, shop.world.clock, shop.tenant).put(wanted)
    page = await build_dataset(shop.world, shop.tenant, wanted, lambda line: None)
    worker = Worker()
    report, said = await trained(shop.world, shop.tenant, Plan(policy="staged", dataset="shown", away=worker))
    assert report.version, report.why
    about = (await shop.world.registry.get(shop.tenant, RANKER, report.version)).about
    assert about["slates"]["source"] == f"shown/{page['id']}"
    assert any(line.startswith(f"history teaches, and {ROUNDS * CUSTOMERS} logged answers") for line in said)
    return worker
