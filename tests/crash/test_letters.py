"""What a flow could not read is sent again, and counts once, in the flows that had not counted it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ray_app.errors import NotFound
from ray_app.events.base import Entry
from ray_app.streams.flow import Bad, Batch, Flow
from ray_app.streams.letters import Letters
from ray_app.streams.state import Op
from tests.crash.events import entries
from tests.crash.world import TOPIC, WINDOW_S, Member, World, loop_of


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
