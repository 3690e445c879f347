"""The queue as producers and slots see it, on a real Redis: what is asked for, who gets it, and how it ends."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest

from ray_app.clock import SystemClock
from ray_app.config import Tasks
from ray_app.errors import InvalidField, NotFound
from ray_app.tasks.names import UnknownTask, merged
from ray_app.tasks.queue import PayloadTooLarge, Queue, delay_s
from ray_app.tasks.task import State, Submission
from ray_app.tasks.work import Retry
from tests.unit.tasks.hands import Hands

DAY_MS = 86_400_000


def noop(**more: Any) -> Submission:
    return Submission("noop", {"value": more.pop("value", None)}, **more)


def now() -> int:
    return SystemClock().now()


async def test_tasks_of_a_queue_begin_in_their_order(queue: Queue, hands: Hands) -> None:
    ids = await queue.submit(*(noop() for _ in range(20)))
    begun = [c[0].id for _ in ids if (c := hands.claim())]
    assert begun == ids


async def test_weights_share_the_starts_and_none_starves(queue: Queue, hands: Hands) -> None:
    for name in ("low_priority", "default", "high_priority"):
        await queue.submit(*(noop(queue=name) for _ in range(200)))
    begun = [c[0].queue for _ in range(160) if (c := hands.claim())]
    assert Counter(begun) == {"high_priority": 100, "default": 50, "low_priority": 10}
    assert Counter(begun[:16]) == {"high_priority": 10, "default": 5, "low_priority": 1}
    assert begun[0] == "high_priority"


async def test_each_pool_keeps_its_own_turns_and_sees_its_queues_alone(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(queue="bulk"), noop(queue="default"))
    first = hands.claim(queues="bulk:1", pool="background")
    assert first is not None
    assert first[0].queue == "bulk"
    assert hands.claim(queues="bulk:1", pool="background") is None


async def test_a_route_of_the_settings_comes_before_the_handlers_queue(redis_url: str) -> None:
    hands = Hands(redis_url, settings=Tasks(routes={"noop": "bulk"}))
    ids = hands.submit(noop(), noop(queue="low_priority"), Submission("nap"))
    assert [hands.task(i).queue for i in ids] == ["bulk", "low_priority", "default"]


@pytest.mark.parametrize("name", ["no such", "a:b", "x" * 65, "Ä"])
async def test_a_queue_that_no_pool_can_name_is_refused(queue: Queue, name: str) -> None:
    with pytest.raises(InvalidField, match="queue"):
        await queue.submit(noop(queue=name))


async def test_an_eta_months_ahead_waits_and_one_of_the_past_does_not(queue: Queue, hands: Hands) -> None:
    later, past = await queue.submit(noop(eta=now() + 200 * DAY_MS), noop(eta=1))
    claimed = hands.claim()
    assert claimed is not None
    assert claimed[0].id == past
    assert hands.claim() is None
    assert (await queue.get(later)).eta > now() + 199 * DAY_MS
    assert (await queue.counts())["delayed"] == 1
    hands.redis.zadd(f"{hands.prefix}:delayed", {later: now() - 1})  # as if the months had passed
    claimed = hands.claim()
    assert claimed is not None
    assert claimed[0].id == later


@pytest.mark.parametrize("eta", [-1, 1 << 60])
async def test_an_eta_that_is_no_time_is_refused(queue: Queue, eta: int) -> None:
    with pytest.raises(InvalidField, match="eta"):
        await queue.submit(noop(eta=eta))


async def test_a_key_is_one_task_of_its_tenant_also_when_it_comes_at_once(queue: Queue) -> None:
    found = await asyncio.gather(*(queue.submit(noop(key="k", tenant="a")) for _ in range(50)))
    assert len({ids[0] for ids in found}) == 1
    assert (await queue.counts())["open"] == 1
    other = await queue.submit(noop(key="k", tenant="b"), noop(key="l", tenant="a"))
    assert len({found[0][0], *other}) == 3


async def test_what_waits_for_a_task_with_a_known_key_waits_for_the_one_that_has_it(queue: Queue, hands: Hands) -> None:
    first = await queue.submit(noop(id="a", key="k"))
    assert await queue.submit(noop(id="b", key="k"), noop(id="c", after=("b",))) == ["a", "c"]
    claimed = hands.claim()
    assert claimed is not None
    assert claimed[0].id == first[0]
    hands.finish(claimed, "SUCCESS", result="1")
    then = hands.claim()
    assert then is not None
    assert then[0].id == "c"


async def test_a_key_is_forgotten_after_its_time(redis_url: str) -> None:
    hands = Hands(redis_url, settings=Tasks(key_keep_s=1))
    first = hands.submit(noop(key="k"))
    assert 0 < hands.redis.pttl(f"{hands.prefix}:idem:system:k") <= 1000
    hands.redis.delete(f"{hands.prefix}:idem:system:k")
    assert hands.submit(noop(key="k")) != first


async def test_the_same_id_is_one_task_and_its_first_argument_stays(queue: Queue) -> None:
    assert await queue.submit(noop(id="one", value=1)) == await queue.submit(noop(id="one", value=2)) == ["one"]
    assert (await queue.get("one")).argument["value"] == 1
    assert (await queue.counts())["open"] == 1


async def test_an_argument_over_the_limit_is_refused_with_what_to_do(queue: Queue) -> None:
    with pytest.raises(PayloadTooLarge, match=r"max_payload_bytes.*blobs"):
        await queue.submit(noop(value="x" * (1 << 20)))
    assert (await queue.counts())["open"] == 0


async def test_an_unknown_name_is_told_the_known_ones(queue: Queue) -> None:
    with pytest.raises(UnknownTask, match=r"'nonsense' is unknown. Known: add, burn, .*nap, noop, "):
        await queue.submit(Submission("nonsense"))


async def test_all_or_none_of_a_call_is_taken(queue: Queue) -> None:
    with pytest.raises(InvalidField):
        await queue.submit(noop(), Submission("noop", {"failures": "many"}))
    with pytest.raises(InvalidField, match="after"):
        await queue.submit(noop(), noop(after=("nobody",)))
    with pytest.raises(InvalidField, match="10000"):
        await queue.submit(*(noop() for _ in range(10_001)))
    assert (await queue.counts())["open"] == 0
    assert await queue.submit() == []


async def test_an_old_name_is_an_alias_and_old_arguments_come_by_position(queue: Queue) -> None:
    handler = queue.names.of("old.tasks.nap")
    argument = merged(handler, [0.5], {"value": 3})
    [id] = await queue.submit(Submission("old.tasks.nap", argument))
    task = await queue.get(id)
    assert (task.name, task.argument) == ("nap", {"seconds": 0.5, "failures": 0, "value": 3})
    with pytest.raises(InvalidField, match="by position: seconds, failures"):
        merged(handler, [1, 2, 3], {})
    with pytest.raises(InvalidField, match="seconds"):
        merged(handler, [1], {"seconds": 2})


NOTED = 65_536  # bytes, as queue.lua has it
ODD = [
    "xx" + "ü€😀" * 20_000,
    None, True, 0, -1, 0.1, 1e308, 5e-324, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1,
    "", "ä€😀", "\u0000\u001f\"\\/", "]]>", [], {}, [[]], [{}], {"a": []}, {"": {"b": [None, []]}}, [[[[[[]]]]]],
    "x" * 100_000, list(range(10_000)), {"1": 1, "01": 2}, "9007199254740993",
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
async def test_a_value_comes_through_redis_as_it_was(queue: Queue, hands: Hands, value: Any) -> None:
    [id] = await queue.submit(noop(value=value))
    claimed = hands.claim()
    assert claimed is not None
    assert (await queue.get(id)).argument["value"] == claimed[0].argument["value"] == value
    assert json.dumps(claimed[0].argument["value"]) == json.dumps(value)
    hands.finish(claimed, "SUCCESS", result=json.dumps(value))
    assert (await queue.get(id)).result == value
    record = json.loads(hands.redis.lindex(f"{hands.prefix}:history", -1) or b"")
    kept = hands.redis.hget(f"{hands.prefix}:task:{id}", "argument") or b""
    if len(kept) <= NOTED:
        assert json.loads(record["argument"])["value"] == value
    else:  # of what is long the history has the beginning, without half a character
        assert kept.startswith(record["argument"].encode())
        assert NOTED - 4 <= len(record["argument"].encode()) <= NOTED


@pytest.mark.parametrize("value", [1 << 64, "\ud800", object()], ids=range(3))
async def test_what_json_has_not_is_refused(queue: Queue, value: Any) -> None:
    with pytest.raises(InvalidField):
        await queue.submit(noop(value=value))


async def test_what_is_nested_deeper_than_json_goes_is_refused(queue: Queue) -> None:
    value: Any = 0
    for _ in range(2000):
        value = [value]
    with pytest.raises(InvalidField):
        await queue.submit(noop(value=value))


async def test_a_number_that_is_none_is_refused_and_not_read_as_null(queue: Queue) -> None:
    with pytest.raises(InvalidField, match="seconds"):
        await queue.submit(Submission("nap", {"seconds": float("nan")}))


@pytest.mark.parametrize("id", ["a b", "ä/€\n\t:{}", "'; DROP", "0", "x" * 256, "\u0000"])
async def test_an_id_may_be_any_text(queue: Queue, hands: Hands, id: str) -> None:
    assert await queue.submit(noop(id=id)) == [id]
    claimed = hands.claim()
    assert claimed is not None
    assert claimed[0].id == id
    again = hands.claim_as(claimed[1])
    assert again == claimed
    assert hands.call("renew", {"lease": 1000, "held": [[id, claimed[1]]]}) == [1]
    hands.finish(claimed, "SUCCESS", result="1")
    assert (await queue.get(id)).state is State.SUCCESS


@pytest.mark.parametrize("id", ["", "x" * 257, "ä" * 129])
async def test_an_id_has_its_bounds(queue: Queue, id: str) -> None:
    with pytest.raises(InvalidField, match="256"):
        await queue.submit(noop(id=id))


async def test_thousands_of_a_call_come_in_their_order(queue: Queue, hands: Hands) -> None:
    """More than Lua can unpack at once."""
    ids = await queue.submit(*(noop(value=k, parent="p") for k in range(9_000)), noop(id="last"))
    assert len(set(ids)) == 9_001
    all_of_them = tuple(ids)
    [waiting] = await queue.submit(noop(id="fan-in", after=all_of_them))
    assert int(hands.redis.hget(f"{hands.prefix}:task:{waiting}", "waits") or 0) == 9_001
    assert (await queue.get(waiting)).after == all_of_them
    assert [line.length for line in await queue.lengths(["default"])] == [9_001]


async def test_an_unknown_task_is_not_found(queue: Queue) -> None:
    for call in (queue.get, queue.cancel):
        with pytest.raises(NotFound, match="forgotten"):
            await call("nobody")
    assert await queue.get_many(["nobody"]) == {}


def test_delays_grow_to_a_bound_and_are_drawn_between_half_and_all() -> None:
    retry, rng = Retry(times=3, first_s=60, most_s=600), random.Random(1)
    for attempt, whole in ((1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (5000, 600)):
        drawn = [delay_s(retry, attempt, rng) for _ in range(200)]
        assert whole / 2 <= min(drawn) < 0.6 * whole
        assert 0.9 * whole < max(drawn) <= whole
    assert delay_s(Retry(jitter=False, first_s=1), 3, rng) == 4
