"""A channel over the network that hangs, and request ids that nobody can make up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.catalog.scenario import HOME
from ray_app.catalog.scenario import Channel as Channels
from ray_app.clock import FixedClock, SystemClock
from ray_app.features.view import Moment
from ray_app.recommend.budget import Budget
from ray_app.recommend.remote import Breaker, Remote, gather
from ray_app.recommend.request import Request
from ray_app.recommend.request_id import RequestIds, Shown
from ray_app.registry.watch import Models
from ray_app.types import Mask, Scored, Visitor
from tests.unit.make import moment, pinned, visitor

HANG_S, BUDGET_S = 10.0, 0.1
SLACK_S = 0.4  # a busy machine; far from HANG_S


class Channel:
    """Answers with `rows`, or hangs, or fails; counts how often it was asked."""

    def __init__(self, rows: tuple[int, ...] = (2, 1), hangs: bool = False, fails: bool = False) -> None:
        self.rows, self.hangs, self.fails, self.asked = rows, hangs, fails, 0

    async def __call__(self, who: Visitor, n: int, allowed: Mask, moment: Moment) -> Scored:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(HANG_S)
        if self.fails:
            raise OSError("the index is away")
        return Scored("far", np.array(self.rows, np.int32), np.ones(len(self.rows), np.float32))


STATE = moment(pinned(5))
SCENARIO = replace(HOME, channels={"far": Channels(1.0, 10), "hot": Channels(1.0, 5)})


def request(budget: Budget, allowed: Mask) -> Request:
    return Request(10, visitor(), SCENARIO, Models(), STATE, budget, allowed, allowed)


async def ask(channel: Remote, budget: Budget, allowed: Mask | None = None) -> dict[str, Scored]:
    allowed = np.ones(5, np.bool_) if allowed is None else allowed
    return await gather({"far": channel}, request(budget, allowed))


async def test_what_comes_in_time_is_there() -> None:
    budget = Budget(SystemClock(), BUDGET_S)
    found = await ask(Remote(Channel(), Breaker(SystemClock()), most_s=5), budget)
    assert found["far"].rows.tolist() == [2, 1]
    assert budget.degraded == []


async def test_only_the_allowed_of_what_another_process_answers_is_kept() -> None:
    """It may know rows that are not on this shelf yet."""
    allowed = np.array([True, False, True, True, True])
    channel = Remote(Channel((1, 9, 4, -1, 0)), Breaker(SystemClock()), most_s=5)
    found = (await ask(channel, Budget(SystemClock(), 5), allowed))["far"]
    assert found.rows.tolist() == [4, 0]
    assert len(found.scores) == 2


async def test_a_channel_that_is_not_of_the_scenario_is_not_asked() -> None:
    other = Channel()
    asked = request(Budget(SystemClock(), 1), np.ones(5, np.bool_))
    await gather({"other": Remote(other, Breaker(SystemClock()))}, asked)
    assert other.asked == 0


@pytest.mark.parametrize("at_once", [1, 20])
async def test_a_channel_that_hangs_leaves_every_one_of_a_hundred_answers_in_its_budget(at_once: int) -> None:
    hanging = Channel(hangs=True)
    channel = Remote(hanging, Breaker(SystemClock(), rest_s=60))
    loop = asyncio.get_running_loop()

    async def one() -> tuple[float, list[str]]:
        began, budget = loop.time(), Budget(SystemClock(), BUDGET_S)
        assert await ask(channel, budget) == {}
        return loop.time() - began, [d.reason for d in budget.degraded]

    answers = [a for _ in range(100 // at_once) for a in await asyncio.gather(*(one() for _ in range(at_once)))]
    assert max(took for took, _ in answers) < BUDGET_S + SLACK_S
    assert hanging.asked <= max(3, at_once)
    assert answers[0][1] == ["took too long"]
    assert answers[-1][1] == ["left alone after repeated failures"]


async def test_a_channel_gets_no_more_than_what_is_left_of_the_request() -> None:
    clock = SystemClock()
    budget = Budget(clock, 0.02)
    began = clock.monotonic()
    await ask(Remote(Channel(hangs=True), Breaker(clock), most_s=HANG_S), budget)
    assert clock.monotonic() - began < 0.02 + SLACK_S


async def test_a_channel_that_fails_is_named_with_the_reason() -> None:
    budget = Budget(SystemClock(), 5)
    assert await ask(Remote(Channel(fails=True), Breaker(SystemClock()), most_s=5), budget) == {}
    assert [(d.stage, d.reason, d.channel) for d in budget.degraded] == [("recall", "the index is away", "far")]


async def test_a_breaker_opens_lets_one_through_after_its_rest_and_closes_on_a_success() -> None:
    clock, far = FixedClock(), Channel(fails=True)
    channel = Remote(far, Breaker(clock, failures=3, rest_s=5), most_s=5)

    async def asked(times: int) -> int:
        before = far.asked
        for _ in range(times):
            await ask(channel, Budget(clock, 1))
        return far.asked - before

    assert await asked(10) == 3
    clock.pass_s(5)
    assert await asked(10) == 1  # it fails again: another rest
    clock.pass_s(5)
    far.fails = False
    assert await asked(10) == 10


async def test_a_success_between_failures_keeps_a_breaker_closed() -> None:
    breaker = Breaker(FixedClock(), failures=3)
    for move in ("failed", "failed", "succeeded", "failed", "failed"):
        getattr(breaker, move)()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()


IDS = RequestIds(b"k" * 32)


@given(
    st.text("0123456789abcdef", min_size=1, max_size=40),
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40),
)
def test_a_request_id_carries_its_scenario(unique: str, scenario: str) -> None:
    assert IDS.read(IDS.make(unique, scenario)) == Shown(scenario)


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3), st.text(max_size=30))
def test_a_request_id_carries_its_arms_whatever_they_are_called(arms: dict[str, str], scenario: str) -> None:
    made = IDS.make("u1", scenario, arms)
    shown = IDS.read(made)
    assert shown is not None
    assert shown.scenario == scenario
    assert shown.arms.items() <= arms.items()
    if len(made.encode()) < 100:
        assert shown.arms == arms


def test_arms_that_make_a_request_id_longer_than_an_id_may_be_are_left_out() -> None:
    arms = {f"experiment {k}": "an arm with a name" for k in range(20)}
    made = IDS.make("u1" * 16, "home", arms)
    shown = IDS.read(made)
    assert 200 < len(made) <= 256
    assert shown is not None
    assert 0 < len(shown.arms) < 20


FORGERIES: list[Callable[[str], str]] = [
    lambda id: "", lambda id: "...", lambda id: id + "0", lambda id: id[:-1], lambda id: "x" + id,
    lambda id: id.replace("home", "sold"), lambda id: id.rpartition(".")[0], lambda id: id.upper(),
    lambda id: RequestIds(b"other").make("u1", "home"), lambda id: "u1.home.ü", lambda id: f"u1~a=b{id[2:]}",
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_request_id_that_is_not_ours_has_no_scenario(forge: Callable[[str], str]) -> None:
    assert IDS.read(IDS.make("u1", "home")) == Shown("home")
    assert IDS.read(forge(IDS.make("u1", "home"))) is None
