"""A day of learning without Ray: dataset, train, evaluate, gate, shadow, live, other answers; then poison, and the way
back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app.catalog.dataset import Datasets, parse
from ray_app.registry.watch import RANKER, SHADOW
from ray_app.training.build import build
from ray_app.training.builds import export, last
from ray_app.training.evaluate import Asked, evaluate
from ray_app.training.recallers import learn
from ray_app.training.train import Plan, train
from tests.story.shop import Shop, history, within
from tests.story.test_learning import stored

pytestmark = pytest.mark.asyncio(loop_scope="session")


def quiet(line: str) -> None:
    """Progress goes nowhere."""


async def built(shop: Shop, **raw: Any) -> dict[str, Any]:
    wanted = await Datasets(shop.world.documents, shop.world.clock, shop.tenant).put(parse(raw))
    return await build(shop.world, shop.tenant, wanted, quiet)


async def versions(shop: Shop) -> dict[str, str]:
    return dict((await shop.recommend("c1")).body["versions"])


@pytest.mark.long
async def test_a_day_of_learning_and_a_day_of_poison(new_shop: Shop, tmp_path: Path) -> None:
    shop = new_shop
    await shop.remember(history(shop.tenant, shop.app.clock.now() - 1000))
    await within(10, lambda: stored(shop, 960))
    page = await built(shop, name="daily", days=90, later_days=14)
    assert (page["rows"], page["types"], page["drift"]) == (960, {"purchase": 1.0}, {})
    assert 0 < page["later_rows"] < page["rows"]

    for job in ("embed", "similarity"):
        assert (await shop.job(job)).version
    first = await train(shop.world, shop.tenant, quiet, Plan(dataset="daily"))
    assert first.version, first.why
    version = await shop.world.registry.get(shop.tenant, RANKER, first.version)
    assert version.about["dataset"] == f"daily/{page['id']}"
    await within(10, lambda: has(shop, {RANKER: first.version}))
    before = (await shop.recommend("c2", n=20)).ids

    day = [shop.event(f"c{k}", f"tea-{k % 10}", "purchase", days_ago=0.01) for k in range(60)]
    await shop.behave(*day)
    await within(10, lambda: stored(shop, 1020))
    again = await built(shop, name="daily", days=90, later_days=14)
    assert again["rows"] == 1020
    assert again["drift"]["against"] == page["id"]
    assert again["drift"]["psi"]["occurred_at"] >= 0
    second = await train(shop.world, shop.tenant, quiet, Plan(policy="shadow", dataset="daily"))
    assert (second.status, bool(second.version)) == ("shadow", True), second.why
    await within(10, lambda: has(shop, {RANKER: first.version, SHADOW: second.version}))
    lines: list[str] = []
    judged = await evaluate(shop.world, shop.tenant, lines.append, Asked(dataset="daily"))
    assert (judged.version, judged.metrics["seen"]) == (first.version, 1.0)  # it learned from most of the slice
    assert 0 < judged.metrics["ndcg@20"] <= 1
    assert any(line.startswith(f"shadow {second.version}") and "(seen)" in line for line in lines)
    shadow = await shop.world.registry.get(shop.tenant, RANKER, second.version or "")
    await shop.world.registry.promote(shop.tenant, shadow)
    assert (shadow.about["parent"], shadow.about["dataset"]) == (first.version, f"daily/{again['id']}")
    await within(10, lambda: has(shop, {RANKER: second.version, SHADOW: None}))
    after = (await shop.recommend("c2", n=20)).ids
    assert after != before
    assert "tea-2" not in after  # it was bought today

    await poisoned(shop, tmp_path)
    assert (await shop.world.registry.live_ids(shop.tenant))[RANKER] == second.version
    await shop.world.registry.rollback(shop.tenant, RANKER)
    await within(10, lambda: has(shop, {RANKER: first.version}))


async def poisoned(shop: Shop, folder: Path) -> None:
    """Items at random, and then a table that is no history: both jobs refuse both, and say why."""
    assert export(shop.world.blobs, shop.tenant, "daily", folder / "whole.parquet") == 1020
    table = pq.read_table(folder / "whole.parquet")
    drawn = np.random.default_rng(0).permutation(table["item_id"].to_pylist())
    place = table.column_names.index("item_id")
    pq.write_table(table.set_column(place, "item_id", pa.array(drawn.tolist())), folder / "mixed.parquet")
    pq.write_table(table.drop_columns(["item_id"]), folder / "other.parquet")
    for name, why in (("mixed", "below"), ("other", "has no column item_id")):
        await built(shop, name=name, source=f"parquet:{folder}/{name}.parquet", days=400, later_days=14)
        for report in (
            await learn(shop.world, shop.tenant, "item_cf", quiet, dataset=name),
            await train(shop.world, shop.tenant, quiet, Plan(dataset=name)),
        ):
            assert report.version is None, f"{report.name} took {name}"
            assert why in report.why, report.why
    page = last(shop.world.blobs, shop.tenant, "other")
    assert page is not None
    assert "item_id" not in page["schema"]


async def has(shop: Shop, wanted: dict[str, str | None]) -> bool:
    found = await versions(shop)
    return all(found.get(name) == id for name, id in wanted.items())
