"""What a flow could not read is sent again, and counts once, in the flows that had not counted it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson
import pytest

from ray_app.clock import FixedClock
from ray_app.errors import NotFound
from ray_app.events.base import Entry, Logged
from ray_app.events.memory import MemoryLog
from ray_app.streams.flow import Bad, Batch, Flow
from ray_app.streams.letters import REMEMBER_S, WRAPPED, Letters, letter
from ray_app.streams.state import Op
from tests.crash import recount
from tests.crash.events import entries
from tests.crash.test_rewind import Generation, generation, rewind
from tests.crash.world import PARTITIONS, TOPIC, WINDOW_S, Member, Stores, World, loop_of

__all__ = ["generation"]


class Picky:
    """The flow before a bug in it was mended: it cannot read every seventh entry."""

    def __init__(self, flow: Flow) -> None:
        self.name, self.topics, self.linger_s, self._flow = flow.name, flow.topics, flow.linger_s, flow

    async def flush(self, batch: Batch) -> Sequence[Op]:
        read = [e for e in batch.entries if e.position % 7]
        batch.bad += [Bad(e, "ValueError: a bug") for e in batch.entries if not e.position % 7]
        batch.entries = read
        return await self._flow.flush(batch) if read else ()


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, clickhouse_url: str) -> AsyncIterator[World]:
    opened = World(tmp_path, redis_url, clickhouse_url, "hot")
    await opened.stores.log.append(TOPIC, entries("hot", opened.stores.tenant))
    yield opened
    await opened.close()


def member(world: World, flow: str, picky: bool = False) -> Member:
    made = world.stores.flow(flow)
    return Member(loop_of(world.stores, Picky(made) if picky else made))


def letters(world: World) -> Letters:
    return Letters(world.stores.log, world.stores.redis, "lemo")


async def test_a_replay_counts_once_and_only_where_it_had_not_counted(world: World) -> None:
    wanted = {flow: await world.wanted(flow) for flow in ("hot", "profile")}
    await member(world, "hot", picky=True).drain()
    await member(world, "profile").drain()
    assert await world.held("profile") == wanted["profile"]
    buried = [one async for one in letters(world).read(TOPIC)]
    assert len(buried) > 20
    assert {(one.flow, one.why) for one in buried} == {("hot", "ValueError: a bug")}
    world.clock.pass_s(10 * WINDOW_S)  # nothing remembers these event ids any more
    assert len(await letters(world).replay(TOPIC, lambda one: True)) == len(buried)
    assert await letters(world).replay(TOPIC, lambda one: True) == []
    await member(world, "hot").drain()
    await member(world, "profile").drain()
    assert await world.held("hot") == wanted["hot"]
    assert await world.held("profile") == wanted["profile"]


async def test_a_crash_between_the_sending_and_its_note_counts_once(world: World) -> None:
    wanted = await world.wanted()
    await member(world, "hot", picky=True).drain()
    await letters(world).replay(TOPIC, lambda one: True)
    await world.stores.redis.delete(f"lemo:letters:{TOPIC}")  # the notes were never written
    await letters(world).replay(TOPIC, lambda one: True)
    await member(world, "hot").drain()
    assert await world.held() == wanted


@pytest.mark.parametrize("flow", ["hot", "metrics"])
async def test_a_letter_that_is_sent_twice_long_after_counts_once(world: World, flow: str) -> None:
    """The second comes in a later batch, when only the memory of event ids can tell."""
    wanted = await world.wanted(flow)
    await member(world, flow, picky=True).drain()
    world.clock.pass_s(10 * WINDOW_S)
    for _ in range(2):
        assert await letters(world).replay(TOPIC, lambda one: True)
        await member(world, flow).drain()
        await world.stores.redis.delete(f"lemo:letters:{TOPIC}")  # the notes were never written
    assert await world.held(flow) == wanted


async def test_an_entry_that_two_flows_could_not_read_is_sent_once(world: World) -> None:
    wanted = {flow: await world.wanted(flow) for flow in ("hot", "behaviors")}
    for flow in wanted:
        await member(world, flow, picky=True).drain()
    buried = [one async for one in letters(world).read(TOPIC)]
    assert {one.flow for one in buried} == {"hot", "behaviors"}
    assert 2 * len(await letters(world).replay(TOPIC, lambda one: True)) == len(buried)
    for flow, counts in wanted.items():
        await member(world, flow).drain()
        assert await world.held(flow) == counts


async def test_what_is_no_letter_of_ours_hides_none(world: World) -> None:
    for body in (b"", b"[]", b"7", b'{"flow": "hot"}', b"\xff"):
        await world.stores.log.append(f"{TOPIC}.dlq", [Entry("theirs", body)])
    await member(world, "hot", picky=True).drain()
    assert len([one async for one in letters(world).read(TOPIC)]) > 20


async def test_what_is_dropped_is_listed_no_more_and_never_sent(world: World) -> None:
    await member(world, "hot", picky=True).drain()
    first, *others = [one async for one in letters(world).read(TOPIC)]
    assert await letters(world).drop(TOPIC, lambda one: one.id == first.id) == 1
    assert [one async for one in letters(world).read(TOPIC)] == others
    assert len(await letters(world).replay(TOPIC, lambda one: True)) == len(others)
    states = {one.id: one.state async for one in letters(world).read(TOPIC, every=True)}
    assert states == {first.id: "dropped", **{one.id: "replayed" for one in others}}
    assert (await letters(world).get(TOPIC, first.id)).body == first.body
    with pytest.raises(NotFound, match="lemo dlq list"):
        await letters(world).get(TOPIC, "0/999999")


def mended(world: World, flow: str, at: int) -> Member:
    return Member(loop_of(world.stores, world.stores.flow(flow), generation=at))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("flow", ["hot", "metrics", "profile"])
async def test_a_letter_that_is_sent_before_or_after_a_rewind_counts_once(
    world: World, generation: Generation, flow: str, when: str
) -> None:
    """The rebuilt state has read the original itself."""
    world.flow = flow
    await member(world, flow, picky=True).drain()
    world.clock.pass_s(10 * WINDOW_S)
    known = [(e.key, orjson.loads(e.body)) for e in entries("hot", world.stores.tenant)]
    later = [Entry(key, orjson.dumps(b | {"event_id": f"later-{b['event_id']}"})) for key, b in known]
    await world.stores.log.append(TOPIC, later)  # more than a batch of each partition
    wanted = await world.wanted(flow)
    for turn in ("before", "after"):
        world.clock.pass_s(10 * WINDOW_S)  # nothing remembers these event ids any more
        if turn == when:
            assert len(await letters(world).replay(TOPIC, lambda one: True)) > 20
        if turn == "before":
            await member(world, flow).drain()
            assert [p async for p in rewind(world, generation).rebuild()]
    await mended(world, flow, 1).drain()
    assert await world.held(flow) == wanted


async def test_what_a_rewind_could_not_read_either_is_sent_for_it_and_counts_once(
    world: World, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await world.wanted()
    await member(world, "hot", picky=True).drain()
    first = [one async for one in letters(world).read(TOPIC)]
    with monkeypatch.context() as still:
        flow = Stores.flow
        still.setattr(Stores, "flow", lambda stores, name: Picky(flow(stores, name)))
        assert [p async for p in rewind(world, generation).rebuild()]
    world.clock.pass_s(10 * WINDOW_S)
    both = [one async for one in letters(world).read(TOPIC)]
    assert [one.generation for one in both].count(1) == len(first) == len(both) / 2
    assert len(await letters(world).replay(TOPIC, lambda one: True)) == len(first)  # once for both
    await mended(world, "hot", 1).drain()
    assert await world.held() == wanted


async def test_a_rewind_counts_what_was_sent_again_where_the_log_has_lost_the_original(
    world: World, generation: Generation
) -> None:
    await member(world, "hot", picky=True).drain()
    buried = [one async for one in letters(world).read(TOPIC)]
    world.clock.pass_s(40 * 86400)
    await letters(world).replay(TOPIC, lambda one: True)
    young = entries("hot", world.stores.tenant)[:1]
    for _ in range(256):  # the log looks at its oldest entries now and then
        await world.stores.log.append(TOPIC, young)
    firsts = [await world.stores.log.first(TOPIC, p) for p in range(PARTITIONS)]
    known = [Logged(TOPIC, one.partition, one.position, one.appended_at, one.key, one.body) for one in buried]
    lost = [e for e in known if e.position < firsts[e.partition]]
    assert len(lost) > 20
    left = [e for e in await world.log() if not e.body.startswith(WRAPPED)]
    assert [p async for p in rewind(world, generation).rebuild()]
    assert await world.held() == recount.hot([*lost, *left])


async def test_letters_of_a_topic_that_is_made_again_inherit_nothing(world: World) -> None:
    redis, clock = world.stores.redis, FixedClock(1_000_000)
    for _ in range(2):
        log = MemoryLog(1, clock)  # as empty as one that was deleted and made again
        await log.append(f"{TOPIC}.dlq", [letter("hot", "a bug", Logged(TOPIC, 0, 7, clock.now(), "k", b"{}"))])
        assert len(await Letters(log, redis, "lemo").replay(TOPIC, lambda one: True)) == 1
        assert await Letters(log, redis, "lemo").replay(TOPIC, lambda one: True) == []
        assert 0 < await redis.ttl(f"lemo:letters:{TOPIC}") <= REMEMBER_S
        clock.pass_s(60)
