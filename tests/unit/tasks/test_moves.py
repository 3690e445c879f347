"""Redis makes the moves of the table, and no others, whatever is done in whatever order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ray_app.errors import InvalidField
from ray_app.tasks.task import ENDED, MOVES, State, Submission, Task, move
from tests.unit.tasks.hands import Claimed, Hands

OUTCOMES = ("SUCCESS", "FAILURE", "RETRY", "PENDING", "PARKED")
WHICH = st.integers(0, 1 << 20)


@pytest.mark.parametrize("a", State)
def test_move_allows_what_the_table_says(a: State) -> None:
    for b in State:
        if b in MOVES[a]:
            assert move(Task("1", "n", "t", "q", {}, state=a, attempt=1), b, 5).state is b
        else:
            with pytest.raises(InvalidField, match=a.value):
                move(Task("1", "n", "t", "q", {}, state=a), b, 5)


class Moves(RuleBasedStateMachine):
    """The model: states by `move`, who has what, and who waits for whom."""

    hands: Hands

    def __init__(self) -> None:
        super().__init__()
        self.hands.redis.flushall()
        self.hands.redis.sadd(self.hands.known, "noop")
        self.model: dict[str, Task] = {}
        self.had: list[Claimed] = []  # what was claimed and not told an end
        self.over: list[Claimed] = []  # claims whose end was told
        self.waits: dict[str, set[str]] = {}
        self.dead: set[str] = set()
        self.cancelled: set[str] = set()
        self.whatever: dict[str, bool] = {}

    @rule(which=WHICH, waits=st.booleans(), whatever=st.booleans())
    def submit(self, which: int, waits: bool, whatever: bool) -> None:
        id = str(len(self.model))
        after = (str(which % len(self.model)),) if waits and self.model else ()
        assert self.hands.submit(Submission("noop", {}, id=id, after=after, whatever=whatever)) == [id]
        self.model[id] = Task(id, "noop", "system", "default", {})
        self.whatever[id] = whatever
        self.waits[id] = {a for a in after if self.model[a].state not in ENDED}
        if any(self.model[a].state in ENDED - {State.SUCCESS} for a in after) and not whatever:
            self._ends(id, State.FAILURE, dead=True)

    @rule(again=st.booleans())
    def claim(self, again: bool) -> None:
        claimed = self.hands.claim()
        free = {i for i, t in self.model.items() if self._may_begin(i, t)}
        if claimed is None:
            assert not free
            return
        id = claimed[0].id
        assert id in free
        if self.model[id].state is not State.STARTED:
            self.model[id] = move(self.model[id], State.STARTED, 1)
        self.model[id] = replace(self.model[id], owner=claimed[1])
        self.had.append(claimed)
        if again:  # the answer was lost
            assert self.hands.claim_as(claimed[1]) == claimed

    def _may_begin(self, id: str, t: Task) -> bool:
        return t.state not in ENDED and not t.owner and not self.waits[id]

    @precondition(lambda self: self.had)
    @rule(which=WHICH, outcome=st.sampled_from(OUTCOMES), twice=st.booleans(), on=WHICH)
    def finish(self, which: int, outcome: str, twice: bool, on: int) -> None:
        claimed = self.had.pop(which % len(self.had))
        id = claimed[0].id
        others = [o for o in self.model if int(o) > int(id)]
        after = [others[on % len(others)]] if others else []
        self.over.append(claimed)
        for _ in range(1 + twice):
            assert self.hands.finish(claimed, outcome, dead=outcome == "FAILURE", after=after)
        self.model[id] = replace(self.model[id], owner="")
        if id in self.cancelled and outcome in ("RETRY", "PENDING", "PARKED"):
            self._ends(id, State.REVOKED)
        elif outcome == "PARKED":
            self.waits[id] = {a for a in after if self.model[a].state not in ENDED}
            self.whatever[id] = True
        elif State(outcome) in ENDED:
            self._ends(id, State(outcome), dead=outcome == "FAILURE")
        else:
            self.model[id] = move(self.model[id], State(outcome), 1)

    @precondition(lambda self: self.had)
    @rule(which=WHICH)
    def lose(self, which: int) -> None:
        """Its guard says that its slot is gone."""
        claimed = self.had.pop(which % len(self.had))
        id = claimed[0].id
        self.over.append(claimed)
        assert self.hands.finish(claimed, "RETRY", lost=True)
        assert not self.hands.finish(claimed, "SUCCESS", result="1")
        self.model[id] = replace(self.model[id], owner="")
        if id in self.cancelled:
            self._ends(id, State.REVOKED)
        else:
            self.model[id] = move(self.model[id], State.RETRY, 1)

    @precondition(lambda self: self.over)
    @rule(which=WHICH)
    def tell_what_is_over(self, which: int) -> None:
        claimed = self.over[which % len(self.over)]
        before = self.hands.task(claimed[0].id)
        self.hands.finish(claimed, "SUCCESS", result="1")
        assert self.hands.call("tell", {"id": claimed[0].id, "token": claimed[1], "line": "x"}) == 0
        assert self.hands.task(claimed[0].id) == before

    @precondition(lambda self: self.model)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        id = str(which % len(self.model))
        self.hands.call("cancel", {"id": id})
        if self.model[id].state in ENDED:
            return
        if self.model[id].owner:
            self.cancelled.add(id)
        else:
            self._ends(id, State.REVOKED)

    @precondition(lambda self: self.dead)
    @rule(which=WHICH)
    def replay(self, which: int) -> None:
        id = sorted(self.dead)[which % len(self.dead)]
        self.dead.discard(id)
        self.model[id] = replace(move(self.model[id], State.PENDING, 1), attempt=0)
        assert self.hands.call("replay", {"ids": [id]}) == [id.encode()]
        on = [a for a in self.hands.task(id).after if not self.whatever[id]]
        self.waits[id] = {a for a in self.hands.task(id).after if self.model[a].state not in ENDED}
        self.cancelled.discard(id)
        if any(self.model[a].state in ENDED - {State.SUCCESS} for a in on):
            self._ends(id, State.FAILURE, dead=True)

    def _ends(self, id: str, state: State, dead: bool = False) -> None:
        self.model[id] = move(replace(self.model[id], owner=""), state, 1)
        self.waits[id] = set()
        if dead:
            self.dead.add(id)
        for other in [o for o, on in self.waits.items() if id in on]:
            self.waits[other].discard(id)
            if state is not State.SUCCESS and not self.whatever[other]:
                self._ends(other, State.FAILURE, dead=True)

    @invariant()
    def same(self) -> None:
        for id, t in self.model.items():
            found = self.hands.task(id)
            assert (found.state, found.attempt, found.owner) == (t.state, t.attempt, t.owner), id
        r, p = self.hands.redis, self.hands.prefix
        queued = [i.decode() for i in r.lrange(f"{p}:queue:default", 0, -1)]
        live = {i for i in queued if self._may_begin(i, self.model[i])}
        assert live == {i for i, t in self.model.items() if self._may_begin(i, t)}
        assert {i.decode() for i in r.zrange(f"{p}:open", 0, -1)} == {
            i for i, t in self.model.items() if t.state not in ENDED
        }
        assert {i.decode() for i in r.zrange(f"{p}:leases", 0, -1)} == {i for i, t in self.model.items() if t.owner}
        assert {i.decode() for i in r.zrange(f"{p}:dead", 0, -1)} == self.dead


def test_redis_makes_the_same_moves_as_the_model(redis_url: str) -> None:
    hands = Hands(redis_url)
    made = type("MovesHere", (Moves,), {"hands": hands})
    run_state_machine_as_test(made, settings=settings(max_examples=40, stateful_step_count=40))
    hands.close()
