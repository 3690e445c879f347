"""Jobs make versions, and serving takes them up; what is broken or worse changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_app import wiring
from ray_app.config import Settings
from ray_app.errors import BrokenArtifact
from ray_app.events.base import Appended
from ray_app.stores.base import Document
from ray_app.streams.applied import wait_applied
from tests.story.shop import DAY_MS, Shop, history, items, within

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_training_makes_a_version_that_serving_picks_up_without_restart(new_shop: Shop) -> None:
    await new_shop.remember(history(new_shop.tenant, new_shop.app.clock.now() - 1000))
    before = await new_shop.recommend("c1", debug=True)
    assert before.body["versions"] == {"ranker": "popularity"}
    reports = await new_shop.learn()
    versions = {r.name: r.version for r in reports}
    assert set(versions) == {"embedder", "item_cf", "ranker"}

    async def taken_up() -> bool:
        answer = await new_shop.recommend("c1")
        assert len(answer.ids) == 10  # no answer suffers meanwhile
        return bool(answer.body["versions"] == versions)

    await within(5.0, taken_up)

    async def used() -> bool:
        items = (await new_shop.recommend("c1")).body["items"]
        return {"item_cf", "content"} <= {c for i in items for c in i["channels"]}

    await within(5.0, used)


@pytest.mark.long
async def test_what_serves_is_judged_and_goes_on_serving(shop: Shop) -> None:
    live = await shop.world.registry.live_ids(shop.tenant)
    before = (await shop.recommend("c1")).ids
    report = await shop.job("evaluate")
    assert report.version == live["ranker"], report.why
    assert report.metrics["recall@20_low"] < report.metrics["recall@20"] < report.metrics["recall@20_high"]
    assert report.metrics["seen"] == 1.0  # it was trained a moment ago
    assert await shop.world.registry.live_ids(shop.tenant) == live
    assert (await shop.recommend("c1")).ids == before


async def test_a_bad_model_never_goes_live(new_shop: Shop) -> None:
    now = new_shop.app.clock.now()
    await new_shop.remember(history(new_shop.tenant, now - 15 * DAY_MS))
    good = await new_shop.job("similarity")
    assert good.version
    rng = np.random.default_rng(1)
    ids = [i["item_id"] for i in items()]
    noise = [
        new_shop.event(f"c{k % 60}", ids[rng.integers(len(ids))], "click", days_ago=float(rng.uniform(0.1, 13)))
        for k in range(600)
    ]
    await new_shop.behave(*noise)
    await within(5.0, lambda: stored(new_shop, 960 + 600))
    bad = await new_shop.job("similarity")
    assert bad.version is None
    assert "below 70% of the live version's" in bad.why
    await within(5.0, lambda: new_shop.serves({"item_cf": good.version}))


async def stored(shop: Shop, n: int) -> bool:
    sql = "SELECT count() AS n FROM behaviors FINAL WHERE tenant = {t:String}"
    return await shop.world.olap.query(sql, {"t": shop.tenant}) == [{"n": n}]


async def test_a_shop_without_history_keeps_what_it_has(new_shop: Shop) -> None:
    reports = [await new_shop.job(name) for name in ("similarity", "train")]
    assert [(r.version, r.why) for r in reports] == [(None, "there are no behaviours yet")] * 2
    assert len((await new_shop.recommend()).ids) == 10


@pytest.fixture
def said() -> Iterator[list[logging.LogRecord]]:
    """What `ray_app` logs."""
    found: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = found.append  # type: ignore[method-assign]
    logging.getLogger("ray_app").addHandler(listener)
    yield found
    logging.getLogger("ray_app").removeHandler(listener)


@pytest.mark.long
async def test_a_broken_artifact_leaves_what_is_live(new_shop: Shop, data: Path, said: list[logging.LogRecord]) -> None:
    await new_shop.remember(history(new_shop.tenant, new_shop.app.clock.now() - 1000))
    good = await new_shop.job("similarity")
    assert good.version
    await within(5.0, lambda: new_shop.serves({"item_cf": good.version or ""}))
    registry, tenant = new_shop.world.registry, new_shop.tenant
    arrays = await registry.load(tenant, await registry.get(tenant, "item_cf", good.version))
    broken = await registry.register(tenant, "item_cf", {k: np.array(v) for k, v in arrays.items()})
    (file, *_) = sorted((data / "blobs" / tenant / "models" / "item_cf" / broken.id).glob("*.npy"))
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    with pytest.raises(BrokenArtifact, match="has checksum"):
        await registry.promote(tenant, broken)
    pointer = Document("item_cf", new_shop.world.clock.now(), {"id": broken.id})
    await new_shop.world.documents.upsert(tenant, "live", [pointer])  # as though it broke after it was promoted

    async def refused() -> bool:
        return any(broken.id == getattr(r, "version", "") and "checksum" in r.why for r in said)  # type: ignore[attr-defined]

    await within(5.0, refused)
    after = await new_shop.recommend("c2")
    assert any("item_cf" in i["channels"] for i in after.body["items"])
    assert after.body["versions"] == {"item_cf": good.version, "ranker": "popularity"}
    next_one = await new_shop.job("similarity")
    assert next_one.version
    await within(5.0, lambda: new_shop.serves({"item_cf": next_one.version or ""}))


async def test_replay_equals_live(shop: Shop, settings: Settings) -> None:
    """Profiles and hot sums of every shop of these stories, made again from the log's beginning in other batches."""
    stores = settings.stores.model_copy(update={"redis_prefix": "replay"})
    streams = settings.streams.model_copy(update={"flows": ("hot", "profile"), "batch": 101})
    await shop.behave(shop.event("henri", "bath-1"), shop.event("henri", "bath-2", "hide"))
    topic = settings.events.behavior_topic
    engine = wiring.engine(settings.model_copy(update={"stores": stores, "streams": streams}))
    engine.start()
    try:
        for prefix in ("lemo", "replay"):
            assert await wait_applied(shop.world.redis, prefix, streams.flows, await last_of(shop, topic), 20)
    finally:
        engine.stop()
    live, replayed = await held(shop, "lemo"), await held(shop, "replay")
    assert len(live) > 300
    assert replayed == live


async def last_of(shop: Shop, topic: str) -> list[Appended]:
    log = shop.world.log
    ends = [(p, await log.end(topic, p)) for p in range(await log.partitions(topic))]
    return [Appended(topic, p, end - 1) for p, end in ends if end]


async def held(shop: Shop, prefix: str) -> dict[str, Any]:
    """Everything that the hot and profile flows keep under this prefix."""
    redis, found = shop.world.redis, {}
    for kind in ("hot", "profile"):
        async for key in redis.scan_iter(f"{prefix}:{kind}:*", count=1000):
            of_type = await redis.type(key)
            value = await (redis.hgetall(key) if of_type == b"hash" else redis.zrange(key, 0, -1, withscores=True))
            found[key.decode().removeprefix(prefix)] = value
    return found
