"""The content pipeline in real slots that are killed with -9 while they fetch: no page is lost, none is doubled."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from ray_app import wiring
from ray_app.config import Content
from ray_app.content import source
from ray_app.content.document import Kept, Status
from ray_app.content.source import Sources
from ray_app.content.tasks import HANDLERS
from ray_app.tasks.task import State
from tests.tasks_world import TasksWorld, settings_of
from tests.unit.content.pages import article, rss
from tests.web import RSS, Answer, Web

PAGES, KILLS, T = 40, 4, "shop"
WORDS = ("harbour", "market", "council", "bridge", "garden", "winter", "school", "river", "song", "copper", "bread")


def text(k: int) -> list[str]:
    """Paragraphs of no other page."""
    rng = random.Random(k)
    return [" ".join(rng.choice(WORDS) + str(rng.randrange(50)) for _ in range(40)) + "." for _ in range(4)]


@pytest.mark.long
async def test_killed_slots_lose_and_double_no_page(redis_url: str, tmp_path: Path) -> None:
    web = Web()
    web.pages |= {f"/{k}": Answer(article(f"Story {k}", text(k)).encode()) for k in range(PAGES)}
    web.pages["/feed"] = Answer(rss([(f"Story {k}", f"/{k}", "") for k in range(PAGES)]), RSS)
    content = Content(allow_hosts=("127.0.0.1",), delay_s=0.02, keep_s=20 * 366 * 86400)
    settings = settings_of(redis_url, tmp_path, lease_s=1.0, retries=50).model_copy(update={"content": content})
    world, tasks = wiring.world(settings), TasksWorld(settings, HANDLERS)
    made = source.parse("s", {"kind": "rss", "url": web.url("/feed")})
    await Sources(world.documents, world.clock, T).put(made)
    kept = Kept(world.documents, world.clock, T)
    worker = tasks.start_worker("ray_app.wiring.guard")
    try:
        id = await tasks.submit("collect_from_source", {"source_id": "s"}, tenant=T)
        killed = 0
        for kill in range(KILLS):
            wanted = (kill + 1) * PAGES // (KILLS + 1)

            async def far(wanted: int = wanted) -> bool:
                return len(await kept.page()) >= wanted

            await tasks.until(far)
            for pid in worker.told.get("slots", ()):
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                    killed += 1
        (task,) = await tasks.ended(id, timeout_s=120)
        assert task.state is State.SUCCESS, task.error
        assert killed >= KILLS
        await tasks.until(tasks._nothing_open, 120)
        found = await kept.page()
        assert Counter(d.status for d in found) == {Status.INDEXED: PAGES}
        assert await said(world) == {d.id: {"upsert"} for d in found}
    finally:
        await tasks.close()
        await world.close()
        web.stop()


async def said(world: wiring.World) -> dict[str, set[str]]:
    """By item what the log says of it."""
    changes: dict[str, set[str]] = {}
    topic = world.settings.events.item_topic
    for p in range(await world.log.partitions(topic)):
        for entry in await world.log.read(topic, p, 0, 1000):
            one = orjson.loads(entry.body)
            changes.setdefault(one["item"]["id"] if "item" in one else one["id"], set()).add(one["change"])
    return changes
