"""A document is processed by whoever, as often as it takes: killed anywhere, done again it ends the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

import orjson
import pytest

from ray_app.clock import FixedClock
from ray_app.content.document import Document, Found, Kept, Status, document_id
from ray_app.content.process import Processor
from ray_app.errors import NotFound, Unavailable
from ray_app.events.memory import MemoryLog
from ray_app.wiring.stores import World
from tests.unit.content.pages import GARDEN, TEA, article

T = "shop"


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A store whose process dies at its write number `at`, before it or, with `late`, right after it."""

    def __init__(self, store: Any, names: tuple[str, ...], writes: count[int], at: int, late: bool) -> None:
        self._store, self._names, self._writes, self._at, self._late = store, names, writes, at, late

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in self._names:
            return found

        def call(*arguments: Any) -> Any:
            dies = next(self._writes) == self._at
            if dies and not self._late:
                raise Killed
            made = found(*arguments)
            if not asyncio.iscoroutine(made):
                if dies:
                    raise Killed
                return made
            return _then(made, dies)

        return call


async def _then(made: Any, dies: bool) -> Any:
    answer = await made
    if dies:
        raise Killed
    return answer


def mortal(world: World, at: int, late: bool) -> World:
    writes = count()
    parts = {"documents": ("upsert",), "log": ("append",), "redis": ("eval",), "blobs": ("remove",)}
    dying = {n: Mortal(getattr(world, n), names, writes, at, late) for n, names in parts.items()}
    return replace(world, **dying)


async def fetched(world: World, name: str, paragraphs: list[str], **fields: Any) -> Document:
    """As a collection leaves it."""
    url = f"http://news.test/{name}"
    raw = f"{T}/content/{document_id(url)}/1"
    world.blobs.put(raw, article(name, paragraphs).encode())
    made = Document(document_id(url), url, Status.FETCHED, 1, raw=raw, content_type="text/html", **fields)
    await Kept(world.documents, world.clock, T).put(made)
    return made


async def said(world: World) -> dict[str, list[str]]:
    """By item what the log says of it, in order."""
    found: dict[str, list[str]] = {}
    topic = world.settings.events.item_topic
    for p in range(await world.log.partitions(topic)):
        for entry in await world.log.read(topic, p, 0, 1000):
            one = orjson.loads(entry.body)
            found.setdefault(one["item"]["id"] if "item" in one else one["id"], []).append(one["change"])
    return found


@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_between_any_two_steps_changes_nothing_in_the_end(world: World, late: bool) -> None:
    original = await fetched(world, "tea", TEA)
    kills = 0
    for at in range(20):
        try:
            await Processor(mortal(world, at, late), T).process(original.id)
            break
        except Killed:
            kills += 1
    assert kills >= 4  # upsert, place, append, upsert, remove: the last may be after the end
    done = await Processor(world, T).process(original.id)
    assert (done.status, done.item_id) == (Status.INDEXED, done.id)
    assert set((await said(world))[done.id]) == {"upsert"}
    for at in range(20):
        copy = await fetched(world, f"copy{at}", [*TEA, "More."])
        try:
            await Processor(mortal(world, at, late), T).process(copy.id)
            break
        except Killed:
            ended = await Processor(world, T).process(copy.id)
            assert (ended.status, ended.duplicate_of) == (Status.DUPLICATE, done.id)
    assert set(await said(world)) == {done.id}


async def test_two_that_process_one_document_make_one_item(world: World) -> None:
    made = await fetched(world, "tea", TEA)
    both = await asyncio.gather(*(Processor(world, T).process(made.id) for _ in range(2)), return_exceptions=True)
    assert any(isinstance(b, Document) and b.status is Status.INDEXED for b in both)
    assert (await Kept(world.documents, world.clock, T).get(made.id)).status is Status.INDEXED
    assert list(await said(world)) == [made.id]


async def test_one_that_finds_the_page_taken_by_another_agrees_with_it(world: World) -> None:
    made, loop = await fetched(world, "tea", TEA), asyncio.get_running_loop()

    class Taken:
        """Blobs that another run uses up between our look at the document and at its page."""

        remove = world.blobs.remove

        def get(self, path: str) -> bytes | None:
            asyncio.run_coroutine_threadsafe(Processor(world, T).process(made.id), loop).result(10)
            return world.blobs.get(path)

    ended = await Processor(replace(world, blobs=Taken()), T).process(made.id)  # type: ignore[arg-type]
    assert (ended.status, ended.error) == (Status.INDEXED, "")


async def test_while_the_log_is_away_a_document_waits(world: World) -> None:
    log = MemoryLog(1, world.clock)
    made, away = await fetched(world, "tea", TEA), replace(world, log=log)
    log.away = True
    with pytest.raises(Unavailable):
        await Processor(away, T).process(made.id)
    assert (await Kept(world.documents, world.clock, T).get(made.id)).status is Status.FETCHED
    log.away = False
    assert (await Processor(away, T).process(made.id)).status is Status.INDEXED


async def test_a_page_that_becomes_a_copy_loses_its_item(world: World) -> None:
    processor = Processor(world, T)
    await processor.process((await fetched(world, "tea", TEA)).id)
    garden = await processor.process((await fetched(world, "garden", GARDEN)).id)
    assert garden.item_id
    again = await fetched(world, "garden", TEA, item_id=garden.item_id, keys=garden.keys)
    changed = await processor.process(again.id)
    assert (changed.status, changed.item_id) == (Status.DUPLICATE, "")
    assert (await said(world))[garden.id] == ["upsert", "delete"]


async def test_a_page_without_a_title_takes_one_of_its_words_and_one_with_nothing_is_empty(world: World) -> None:
    kept = Kept(world.documents, world.clock, T)
    bare = Document("bare", "http://news.test/bare", Status.FETCHED, 1, said=Found(text=" ".join(TEA)))
    nothing = Document("nothing", "http://news.test/nothing", Status.FETCHED, 1)
    await kept.put(bare, nothing)
    assert (await Processor(world, T).process("bare")).status is Status.INDEXED
    assert (await Processor(world, T).process("nothing")).status is Status.EMPTY
    with pytest.raises(NotFound, match="'nobody'"):
        await Processor(world, T).process("nobody")


async def test_a_page_that_is_gone_from_the_blobs_says_so(world: World) -> None:
    made = await fetched(world, "tea", TEA)
    world.blobs.remove(made.raw)
    ended = await Processor(world, T).process(made.id)
    assert ended.status is Status.FAILED
    assert "fetch it again" in ended.error


async def test_what_no_item_can_be_made_of_fails_for_good_with_the_reason(world: World) -> None:
    made = Document("odd", "http://news.test/odd", Status.FETCHED, 1, said=Found(title="Odd", published_at=10**15))
    await Kept(world.documents, world.clock, T).put(made)
    ended = await Processor(world, T).process("odd")
    assert ended.status is Status.FAILED
    assert "published_at" in ended.error
    assert await said(world) == {}


async def test_a_page_that_breaks_the_extractor_fails_for_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*page: object) -> Found:
        raise AttributeError("'NoneType' object has no attribute 'text'")

    monkeypatch.setattr("ray_app.content.process.extract", broken)
    made = await fetched(world, "tea", TEA)
    ended = await Processor(world, T).process(made.id)
    assert ended.status is Status.FAILED
    assert "no attribute 'text'" in ended.error


async def test_a_machine_whose_clock_is_late_processes_what_another_fetched(world: World) -> None:
    made = await fetched(world, "tea", TEA)
    late = replace(world, clock=FixedClock(world.clock.now() - 60_000))
    await Processor(late, T).process(made.id)
    assert (await Kept(world.documents, world.clock, T).get(made.id)).status is Status.INDEXED
    changed = await fetched(world, "tea", GARDEN, item_id=made.id)
    await Processor(late, T).process(changed.id)
    versions = [v for _, v in await written(world)]
    assert versions == sorted(set(versions))  # the item's second state is the newer one


async def test_a_page_that_is_fetched_again_meanwhile_is_the_one_that_counts(world: World) -> None:
    made, loop = await fetched(world, "tea", TEA), asyncio.get_running_loop()
    newer = f"{T}/content/{made.id}/2"

    class Again:
        """Blobs during whose first look the page is fetched anew."""

        remove = world.blobs.remove

        def get(self, path: str) -> bytes | None:
            if path != newer:
                world.blobs.put(newer, article("tea", GARDEN).encode())
                known = Kept(world.documents, world.clock, T)
                asyncio.run_coroutine_threadsafe(known.put(replace(made, raw=newer)), loop).result(10)
            return world.blobs.get(path)

    ended = await Processor(replace(world, blobs=Again()), T).process(made.id)  # type: ignore[arg-type]
    assert (ended.status, GARDEN[0][:40] in ended.found.text) == (Status.INDEXED, True)
    assert (await Kept(world.documents, world.clock, T).get(made.id)).status is Status.INDEXED


async def test_a_text_whose_first_page_has_it_no_more_is_no_copy(world: World) -> None:
    processor = Processor(world, T)
    first = await processor.process((await fetched(world, "tea", TEA)).id)
    await Kept(world.documents, world.clock, T).put(replace(first, status=Status.FETCHED, said=Found(), raw="gone"))
    assert (await processor.process(first.id)).status is Status.FAILED
    again = await processor.process((await fetched(world, "elsewhere", TEA)).id)
    assert again.status is Status.INDEXED


async def written(world: World) -> list[tuple[str, int]]:
    """Items and their versions, as the log has them."""
    topic, found = world.settings.events.item_topic, list[tuple[str, int]]()
    for p in range(await world.log.partitions(topic)):
        for entry in await world.log.read(topic, p, 0, 1000):
            one = orjson.loads(entry.body)
            found.append((one["item"]["id"], one["item"]["version"]))
    return found
