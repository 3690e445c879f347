"""How tasks of the queue end, and what follows: dependencies, retries, dead letters, cancelling, rates, lost slots."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from ray_app.clock import SystemClock
from ray_app.config import Tasks
from ray_app.tasks.queue import Queue
from ray_app.tasks.task import ENDED, State, Submission
from tests.services.redis import EMBEDDED, IN_MEMORY, RedisPeer
from tests.unit.tasks.hands import Claimed, Hands


def noop(**more: object) -> Submission:
    return Submission("noop", **more)  # type: ignore[arg-type]


def claimed_by(hands: Hands) -> Claimed:
    found = hands.claim()
    assert found is not None
    return found


def now() -> int:
    return SystemClock().now()


async def test_a_chain_of_50_goes_one_after_another(queue: Queue, hands: Hands) -> None:
    chain = [noop(id=str(k), after=(str(k - 1),) if k else ()) for k in range(50)]
    await queue.submit(*chain)
    for k in range(50):
        claimed = claimed_by(hands)
        assert claimed[0].id == str(k)
        assert hands.claim() is None
        hands.finish(claimed, "SUCCESS", result=str(k))
    assert hands.claim() is None


async def test_a_chain_of_50_fails_as_a_whole_and_says_after_whom(queue: Queue, hands: Hands) -> None:
    await queue.submit(*(noop(id=str(k), after=(str(k - 1),) if k else ()) for k in range(50)))
    hands.finish(claimed_by(hands), "FAILURE", error="broken", dead=True)
    tasks = await queue.get_many(map(str, range(50)))
    assert {t.state for t in tasks.values()} == {State.FAILURE}
    assert tasks["49"].error == "task 48, for which it waited, ended as FAILURE"
    assert len(await queue.dead()) == 50


async def test_dead_letters_of_a_chain_are_replayed_in_the_order_of_the_chain(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="a"), noop(id="b", after=("a",)), noop(id="c", after=("b",)))
    hands.finish(claimed_by(hands), "FAILURE", dead=True)
    assert await queue.replay("c", "b", "a", "nobody") == ["c", "b", "a"]
    for id in "abc":
        claimed = claimed_by(hands)
        assert (claimed[0].id, claimed[0].attempt) == (id, 1)
        assert hands.claim() is None
        hands.finish(claimed, "SUCCESS", result="1")


async def test_a_replayed_task_without_what_it_waits_for_fails_again(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="a"), noop(id="b", after=("a",)))
    hands.finish(claimed_by(hands), "FAILURE", dead=True)
    assert await queue.replay("b") == ["b"]
    assert (await queue.get("b")).state is State.FAILURE
    assert [t.id for t in await queue.dead()] == ["b", "a"]


@pytest.mark.parametrize("twice", [False, True])
async def test_a_diamond_joins_when_both_sides_have_ended(queue: Queue, hands: Hands, twice: bool) -> None:
    await queue.submit(noop(id="top"), noop(id="left", after=("top",)), noop(id="right", after=("top",)))
    await queue.submit(noop(id="join", after=("left", "right", "left") if twice else ("left", "right")))
    done = []
    for _ in range(4):
        claimed = claimed_by(hands)
        done.append(claimed[0].id)
        hands.finish(claimed, "SUCCESS", result="1")
    assert (done[0], {*done[1:3]}, done[3]) == ("top", {"left", "right"}, "join")


async def test_whatever_waits_for_ends_of_any_kind(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="a"), noop(id="b"), noop(id="then", after=("a", "b"), whatever=True))
    hands.finish(claimed_by(hands), "FAILURE", dead=True)
    await queue.cancel("b")
    assert claimed_by(hands)[0].id == "then"


async def test_what_waits_for_one_that_has_ended_begins_or_fails_at_once(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="good"), noop(id="bad"))
    hands.finish(claimed_by(hands), "SUCCESS", result="1")
    hands.finish(claimed_by(hands), "FAILURE", dead=False)
    await queue.submit(noop(id="x", after=("good",)), noop(id="y", after=("good", "bad")))
    assert claimed_by(hands)[0].id == "x"
    assert (await queue.get("y")).error == "task bad, for which it waits, did not succeed"


async def test_an_eta_holds_also_for_what_waited_for_another(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="a"), noop(id="b", after=("a",), eta=now() + 3_600_000))
    hands.finish(claimed_by(hands), "SUCCESS", result="1")
    assert hands.claim() is None
    assert (await queue.counts())["delayed"] == 1


async def test_cancel_ends_what_waits_in_every_way_and_its_children(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="ready"), noop(id="late", eta=now() + 3_600_000), noop(id="after", after=("ready",)))
    for id in ("late", "after", "ready"):
        assert await queue.cancel(id) is State.REVOKED
        assert (await queue.get(id)).error == "cancelled"
    assert hands.claim() is None
    assert (await queue.counts()) == {"open": 0, "delayed": 0, "running": 0, "dead": 0, "unshipped": 3}


async def test_cancel_reaches_grandchildren_and_children_that_come_later(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="parent"))
    claimed = claimed_by(hands)
    await queue.submit(noop(id="child", parent="parent"), noop(id="grandchild", parent="child"))
    assert await queue.cancel("parent") is State.STARTED
    await queue.submit(noop(id="late", parent="parent"))
    found = await queue.get_many(["child", "grandchild", "late"])
    assert [t.state for t in found.values()] == [State.REVOKED] * 3
    assert hands.call("renew", {"lease": 1000, "held": [["parent", claimed[1]]]}) == [2]
    hands.finish(claimed, "RETRY", due=0)
    assert (await queue.get("parent")).state is State.REVOKED


@pytest.mark.parametrize("outcome", ["RETRY", "PENDING", "PARKED"])
async def test_a_cancelled_task_does_not_come_back(queue: Queue, hands: Hands, outcome: str) -> None:
    [id] = await queue.submit(noop())
    claimed = claimed_by(hands)
    await queue.cancel(id)
    hands.finish(claimed, outcome)
    assert (await queue.get(id)).state is State.REVOKED


async def test_cancel_of_one_that_follows_a_job_lets_a_slot_end_the_job(queue: Queue, hands: Hands) -> None:
    for cancels_first in (False, True):
        [id] = await queue.submit(noop())
        claimed = claimed_by(hands)
        if cancels_first:
            await queue.cancel(id)
        hands.finish(claimed, "PARKED", following="job-1", due=now() + 3_600_000)
        assert (await queue.counts())["running"] == 0  # it holds no slot
        assert await queue.cancel(id) is State.STARTED
        again = claimed_by(hands)
        assert (again[0].id, again[0].following, again[0].attempt) == (id, "job-1", 1)
        hands.finish(again, "REVOKED", error="the task was cancelled")
        assert (await queue.get(id)).state is State.REVOKED


async def test_cancel_of_what_has_ended_changes_nothing(queue: Queue, hands: Hands) -> None:
    [id] = await queue.submit(noop())
    hands.finish(claimed_by(hands), "SUCCESS", result="7")
    before = await queue.get(id)
    assert await queue.cancel(id) is State.SUCCESS
    assert await queue.get(id) == before


async def test_a_drained_task_counts_no_attempt_and_goes_first(queue: Queue, hands: Hands) -> None:
    first, _ = await queue.submit(noop(), noop())
    for _ in range(10):
        claimed = claimed_by(hands)
        assert (claimed[0].id, claimed[0].attempt) == (first, 1)
        hands.finish(claimed, "PENDING")
    assert (await queue.get(first)).started_at == 0


async def test_a_worker_claims_only_handlers_that_it_knows(redis_url: str, hands: Hands) -> None:
    """As while a new version is rolled out. Many that it does not know keep it from none that it knows."""
    old = Hands(redis_url, known=("nap",))
    hands.submit(*(noop() for _ in range(1000)), Submission("nap", id="known"))
    found = next(c for _ in range(20) if (c := old.claim()))
    assert found[0].id == "known"
    assert hands.redis.zcard(f"{hands.prefix}:delayed") == 1000
    states = {hands.task(i.decode()).attempt for i in hands.redis.zrange(f"{hands.prefix}:delayed", 0, 20)}
    assert states == {0}


async def test_a_rate_spreads_the_starts(queue: Queue, hands: Hands) -> None:
    hands.rates = {"noop": {"ms": 1_000_000.0, "by_tenant": False}}
    await queue.submit(*(noop(id=str(k)) for k in range(5)), Submission("nap", id="other"))
    assert claimed_by(hands)[0].id == "0"
    assert claimed_by(hands)[0].id == "other"
    assert hands.claim() is None
    places = dict(hands.redis.zrange(f"{hands.prefix}:delayed", 0, -1, withscores=True))
    gaps = [places[str(k + 1).encode()] - places[str(k).encode()] for k in range(1, 4)]
    assert all(abs(g - 1_000_000) <= 1 for g in gaps)


async def test_a_rate_holds_after_a_pause_in_which_all_places_passed(queue: Queue, hands: Hands) -> None:
    hands.rates = {"noop": {"ms": 1_000_000.0, "by_tenant": False}}
    await queue.submit(*(noop(id=str(k)) for k in range(10)))
    assert claimed_by(hands)[0].id == "0"
    assert hands.claim() is None
    for k in range(1, 10):  # as if two hours had passed
        hands.redis.zadd(f"{hands.prefix}:delayed", {str(k): 1.0})
        hands.redis.hset(f"{hands.prefix}:task:{k}", "rated", now() - 7_200_000)
    hands.redis.delete(f"{hands.prefix}:rate:noop")
    assert hands.claim() is not None
    assert hands.claim() is None


async def test_a_rate_by_tenant_lets_each_have_its_own(queue: Queue, hands: Hands) -> None:
    hands.rates = {"noop": {"ms": 1_000_000.0, "by_tenant": True}}
    await queue.submit(*(noop(tenant=t) for t in ("a", "a", "b", "b")))
    assert [claimed_by(hands)[0].tenant for _ in range(2)] == ["a", "b"]
    assert hands.claim() is None


async def test_results_and_logs_expire_and_dead_letters_do_not(redis_url: str) -> None:
    hands = Hands(redis_url, settings=Tasks(result_keep_s=100))
    done, dead, dropped = hands.submit(noop(), noop(), noop())
    for outcome, is_dead in (("SUCCESS", False), ("FAILURE", True), ("FAILURE", False)):
        claimed = claimed_by(hands)
        hands.call("tell", {"id": claimed[0].id, "token": claimed[1], "line": "said"})
        hands.finish(claimed, outcome, dead=is_dead)
    for kind in ("task", "log"):
        left = [hands.redis.pttl(f"{hands.prefix}:{kind}:{i}") for i in (done, dead, dropped)]
        assert 90_000 < left[0] <= 100_000
        assert left[1] == -1
        assert 90_000 < left[2] <= 100_000
    assert hands.call("replay", {"ids": [done, dropped, dead]}) == [dead.encode()]
    hands.finish(claimed_by(hands), "SUCCESS", result="1")
    assert hands.redis.pttl(f"{hands.prefix}:task:{dead}") > 0


async def test_dead_letters_are_found_and_forgotten_by_age_but_not_one_that_was_replayed(
    queue: Queue, hands: Hands
) -> None:
    ids = await queue.submit(*(noop(tenant="a" if k % 2 else "b") for k in range(2_500)))
    for _ in ids:
        hands.finish(claimed_by(hands), "FAILURE", error="broken", dead=True)
    assert {t.tenant for t in await queue.dead(tenant="a")} == {"a"}
    assert len(await queue.dead(most=7)) == 7
    await queue.replay(ids[0])
    assert await queue.drop_dead(now() + 1000) == 2_499
    assert await queue.dead() == []
    assert claimed_by(hands)[0].id == ids[0]


async def test_what_a_run_says_is_seen_while_it_runs_and_only_the_newest_thousand_lines(
    queue: Queue, hands: Hands
) -> None:
    [id] = await queue.submit(noop())
    claimed = claimed_by(hands)
    for k in range(1_005):
        assert hands.call("tell", {"id": id, "token": claimed[1], "line": f"{k}", "progress": json.dumps({"done": k})})
    assert (await queue.get(id)).progress == {"done": 1004}
    assert await queue.log(id) == [str(k) for k in range(5, 1_005)]


async def test_the_end_is_told_twice_and_counts_once(queue: Queue, hands: Hands) -> None:
    [id] = await queue.submit(noop())
    claimed = claimed_by(hands)
    assert hands.finish(claimed, "RETRY", due=0)
    assert hands.finish(claimed, "RETRY", due=0)
    again = claimed_by(hands)
    assert again[0].attempt == 2
    assert hands.finish(claimed, "SUCCESS", result="1")  # as it was told: it retried; its second word is not heard
    assert (await queue.get(id)).state is State.STARTED
    assert hands.redis.llen(f"{hands.prefix}:history") == 1


async def test_a_lost_lease_goes_to_another_and_the_first_is_refused(redis_url: str, hands: Hands) -> None:
    other = Hands(redis_url)
    hands.lease_ms = 1
    [id] = hands.submit(noop())
    zombie = claimed_by(hands)
    assert other.reap() == [id]
    mine = claimed_by(other)
    assert mine[0].attempt == 2
    assert hands.call("renew", {"lease": 1000, "held": [[id, zombie[1]]]}) == [0]
    assert not hands.call("tell", {"id": id, "token": zombie[1], "line": "I live", "progress": "{}"})
    assert not hands.finish(zombie, "SUCCESS", result='"stale"')
    assert other.finish(mine, "SUCCESS", result='"mine"')
    assert other.task(id).result == "mine"


async def test_a_lease_is_lost_as_often_as_there_are_tries_then_it_is_a_dead_letter(hands: Hands) -> None:
    hands.lease_ms = 1
    [id] = hands.submit(noop())
    for attempt in range(1, 5):
        assert claimed_by(hands)[0].attempt == attempt
        hands.reap()
    task = hands.task(id)
    assert task.state is State.FAILURE
    assert task.error.startswith("its worker was lost: ")


async def test_nothing_is_taken_over_within_one_lease_of_the_start_of_redis(hands: Hands) -> None:
    hands.lease_ms = 1
    hands.submit(noop())
    claimed_by(hands)
    await asyncio.sleep(0.01)
    assert hands.call("reap", {"lease": 1 << 40}) == []  # a lease longer than any Redis has been up


async def test_a_paused_pool_claims_nothing_and_another_set_of_queues_is_claimed(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(queue="default"), noop(queue="bulk"))
    wanted = f"{hands.prefix}:pool:general"
    hands.redis.hset(wanted, "paused", 1)
    assert hands.claim() is None
    hands.redis.hset(wanted, mapping={"paused": 0, "queues": "bulk:3"})
    assert claimed_by(hands)[0].queue == "bulk"
    assert hands.claim() is None
    hands.redis.hdel(wanted, "queues")
    assert claimed_by(hands)[0].queue == "default"


async def test_the_history_has_each_attempt_and_the_counts_add_up(queue: Queue, hands: Hands) -> None:
    [id] = await queue.submit(noop())
    hands.finish(claimed_by(hands), "RETRY", error="first", due=0)
    hands.finish(claimed_by(hands), "SUCCESS", result="1")
    history = [json.loads(h) for h in hands.redis.lrange(f"{hands.prefix}:history", 0, -1)]
    assert [(h["id"], h["state"], h["attempt"]) for h in history] == [(id, "RETRY", "1"), (id, "SUCCESS", "2")]
    counts = hands.redis.hgetall(f"{hands.prefix}:counts")
    assert (counts[b"noop|RETRY"], counts[b"noop|SUCCESS"]) == (b"1", b"1")


async def test_tasks_are_found_by_state_tenant_and_group(queue: Queue, hands: Hands) -> None:
    await queue.submit(noop(id="a", group="g"), noop(id="b", tenant="t"), noop(id="c", group="g"))
    hands.finish(claimed_by(hands), "SUCCESS", result="1")
    assert [t.id for t in await queue.find(ENDED)] == ["a"]
    assert {t.id for t in await queue.find(set(State), group="g")} == {"a", "c"}
    assert [t.id for t in await queue.find(set(State) - ENDED, tenant="t")] == ["b"]


async def test_what_is_left_in_redis_of_a_task_that_was_forgotten_is_nothing(redis_url: str) -> None:
    hands = Hands(redis_url, settings=Tasks(result_keep_s=1, key_keep_s=1))
    for k in range(20):
        hands.submit(noop(id=f"{k}a", key=str(k)), noop(id=f"{k}b", after=(f"{k}a",), parent=f"{k}a"))
        for _ in range(2):
            claimed = claimed_by(hands)
            hands.call("tell", {"id": claimed[0].id, "token": claimed[1], "line": "x"})
            hands.finish(claimed, "SUCCESS", result="1")
    persistent = {k.decode() for k in hands.redis.scan_iter() if hands.redis.ttl(k) == -1}
    lasting = {"history", "counts", "turns:general", "ended", "wake:default", hands.known.split(":", 2)[2]}
    assert {k.removeprefix(f"{hands.prefix}:") for k in persistent} <= lasting


async def test_a_key_whose_dead_letter_was_dropped_is_free_again(queue: Queue, hands: Hands) -> None:
    """Else a submission would be answered with the id of a task that is no more, and lost."""
    [first] = await queue.submit(noop(key="k"))
    hands.finish(claimed_by(hands), "FAILURE", error="broken", dead=True)
    assert await queue.submit(noop(key="k")) == [first]
    assert await queue.drop(first) == [first]
    [again] = await queue.submit(noop(key="k"))
    assert (await queue.get(again)).state is State.PENDING


async def test_the_age_of_a_queue_counts_from_when_its_tasks_could_begin(queue: Queue, hands: Hands) -> None:
    """And not from the submission of one that waited for others, or for its job: pools would grow for nothing."""
    await queue.submit(noop(id="a"), noop(id="b", after=("a",)))
    claimed = claimed_by(hands)
    hands.redis.hset(f"{hands.prefix}:task:b", "submitted_at", now() - 3_600_000)  # an hour ago
    assert (await queue.lengths(["default"]))[0].oldest_s == 0.0
    hands.finish(claimed, "SUCCESS", result="1")
    [line] = await queue.lengths(["default"])
    assert line.length == 1
    assert line.oldest_s < 60


async def test_nothing_is_taken_over_within_one_lease_of_a_failover(hands: Hands, tmp_path: Path) -> None:
    """A replica has been up for long when it becomes the master; while nobody was it nobody could renew."""
    [id] = hands.submit(noop())
    hands.lease_ms = 1
    claimed_by(hands)
    replica = RedisPeer(tmp_path, EMBEDDED, IN_MEMORY)
    replica.start()
    other = Hands(replica.url)
    try:
        other.redis.execute_command("REPLICAOF", "127.0.0.1", hands.redis.connection_pool.connection_kwargs["port"])
        deadline = time.monotonic() + 30
        while not other.redis.exists(f"{hands.prefix}:leases") or other.redis.info("server")["uptime_in_seconds"] < 3:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)  # a poll of another process, not a race
        other.redis.execute_command("REPLICAOF", "NO", "ONE")
        assert other.call("reap", {"lease": 1500}) == []
        assert other.reap() == [id]
    finally:
        other.close()
        replica.kill()
