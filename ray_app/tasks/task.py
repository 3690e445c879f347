"""A task: durable work, the states it goes through, and what a submission says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from ray_app.errors import InvalidField


class State(Enum):
    """The names of Celery, so that what waits for an old result goes on reading them. MOVES says what may follow."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


ENDED = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
MOVES: Mapping[State, frozenset[State]] = {
    # FAILURE of what never began: something that it waited for did not succeed.
    State.PENDING: frozenset({State.STARTED, State.FAILURE, State.REVOKED}),
    # PENDING: released by a drain, which counts as no attempt.
    State.STARTED: frozenset({State.SUCCESS, State.RETRY, State.FAILURE, State.REVOKED, State.PENDING}),
    State.RETRY: frozenset({State.STARTED, State.FAILURE, State.REVOKED}),
    State.SUCCESS: frozenset(),
    State.FAILURE: frozenset({State.PENDING}),  # a dead letter that is replayed
    State.REVOKED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked for. `name`: of a handler, or one of its old names. `argument`: JSON, checked by the handler's
    pydantic class. `id`: chosen by the caller, else random; the same id twice is one task. `key`: the same key of a
    tenant within `key_keep_s` is one task. `eta`: not before this time (ms). `after`: ids of tasks that must have
    succeeded; with `whatever` they must have ended. `parent`: the task that asked for it. `queue`: else the handler's,
    else by the routes. `group`: a name that tasks share, so that they can be listed."""

    name: str
    argument: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = "system"
    id: str | None = None
    key: str | None = None
    queue: str | None = None
    eta: int = 0
    after: tuple[str, ...] = ()
    whatever: bool = False
    parent: str = ""
    group: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """`attempt` counts from 1, and is 0 before the first. `progress` and `log` are what the run told, also while it
    runs. `following`: the submission id of the Ray Job that it follows. Times are ms, 0 where not yet."""

    id: str
    name: str
    tenant: str
    queue: str
    argument: Mapping[str, Any]
    state: State = State.PENDING
    attempt: int = 0
    result: Any = None
    error: str = ""
    submitted_at: int = 0
    eta: int = 0
    started_at: int = 0
    ended_at: int = 0
    after: tuple[str, ...] = ()
    parent: str = ""
    group: str = ""
    trace: str = ""
    key: str = ""
    owner: str = ""
    following: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)


def move(task: Task, to: State, now: int) -> Task:
    """Raises InvalidField, naming both states, for a move that the table does not allow. Redis makes the same moves in
    queue.lua, which is given this table."""
    if to not in MOVES[task.state]:
        allowed = ", ".join(sorted(s.value for s in MOVES[task.state])) or "nothing: it has ended"
        raise InvalidField("state", to.value, f"from {task.state.value}: {allowed}")
    if to is State.STARTED:
        return replace(task, state=to, attempt=task.attempt + 1, started_at=now)
    if to is State.PENDING and task.state is State.STARTED:
        return replace(task, state=to, attempt=task.attempt - 1, started_at=0)
    return replace(task, state=to, ended_at=now if to in ENDED else 0)
