"""What a handler is, how it is tried again, and what it sees of its run."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from ray_app.errors import LemoError
from ray_app.tasks.task import Submission, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """After failure k the next try comes in `first_s` * 2**(k-1) s, at most `most_s`, drawn between half and all of it
    where `jitter`. `times`: tries after the first."""

    times: int = 3
    first_s: float = 60.0
    most_s: float = 600.0
    jitter: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one attempt, in seconds. At `soft_s` the handler gets SoftLimit; at `hard_s` its process group is killed."""

    soft_s: float = 240.0
    hard_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `per_s` starts a second over all slots, of this handler or, with `by_tenant`, of each tenant."""

    per_s: float
    by_tenant: bool = False


class SoftLimit(Exception):
    """The attempt has run for its soft limit: clean up and end. Raised inside the handler."""


class Revoked(Exception):
    """The task was cancelled while it ran. Raised inside the handler."""


class RetryAsked(Exception):
    """A handler raises it to be tried again, `after_s` from now (None: as its Retry says), where tries are left."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class Fail(Exception):
    """A handler raises it to end as FAILURE at once: another try would end alike. Kept as a dead letter."""


class Parked(BaseException):
    """Raised by Run.job and Run.gather while what they wait for goes on: the slot lets the task go, which comes back
    later and runs the handler again from its top. No handler catches it."""

    def __init__(self, following: str = "", after: Sequence[str] = ()) -> None:
        super().__init__(following or f"{len(after)} tasks")
        self.following, self.after = following, tuple(after)


class NotMine(LemoError):
    """The task was taken over or has ended: this run may have no effect any more."""

    status, code, reason = 409, "ABORTED", "TASK_NOT_MINE"


class JobFailed(LemoError):
    """The Ray Job of this attempt did not succeed."""

    reason = "JOB_FAILED"


class Run(Protocol):
    """What a handler sees. `stores` is the opened World of the process (wiring.stores), typed by each subject's own
    protocol. A plain handler, which runs in the slot's main thread, waits for what is async with `wait`."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int:
        """From 1."""
        ...

    @property
    def tenant(self) -> str: ...
    @property
    def trace(self) -> str: ...
    @property
    def stores(self) -> Any: ...

    def wait(self, awaitable: Awaitable[T]) -> T:
        """For plain handlers alone; in an `async def` it would wait for itself."""
        ...

    async def progress(self, done: int, total: int = 0, note: str = "") -> None:
        """Seen at once by who looks at the task. Raises NotMine."""
        ...

    async def log(self, line: str) -> None:
        """One line of the run's log, the newest 1,000 are kept. Raises NotMine."""
        ...

    async def still_mine(self) -> None:
        """Before an effect that may not come twice. Raises NotMine when another run has the task."""
        ...

    async def before(self) -> list[Task]:
        """The tasks for which this one waited, in the order of its `after`, with their results: how the callback of a
        group, or the next of a chain, sees what came before. Those that are forgotten by now are left out."""
        ...

    async def submit(self, *asked: Submission) -> list[str]:
        """Children: `id`, where not given, is made of this task's id and their place, so that a second run submits the
        same ones; parent, trace, and tenant where it is "system", are this task's. Returns their ids."""
        ...

    async def gather(self, *asked: Submission) -> list[Task]:
        """Submit children and return them when all have ended, however they did. The task holds no slot meanwhile: the
        handler runs again from its top, so what stands before must bear to be done again."""
        ...

    async def job(self, script: str, args: Sequence[str] = ()) -> str:
        """Run jobs/SCRIPT.py as the Ray Job `<task id>-<attempt>`, or follow it where it exists; returns its log when
        it succeeded. The task holds no slot meanwhile, and the handler runs again from its top.
        Raises JobFailed with the end of the log."""
        ...


Call = Callable[[Any, Run], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """One kind of task. `call` is `async def` or plain, and takes (argument, run); its argument is `asks`, a pydantic
    class. `name`: the function's unless said. `aliases`: old full names; one that ends in `.*` stands for every name
    that begins so. `positional`: names of the arguments that old producers send by position. None of `retry`,
    `limits`: as the settings say. `verdicts`: what an exception means, "retry", "fail" (dead letter) or "drop"
    (FAILURE without one); the nearest class counts, of others "retry". `house`: works on what belongs to all tenants,
    so that no tenant's key may submit it. `cpus`, `gpus`: of a Ray Job in which it runs then, instead of its slot.
    `queue_of`: the queue of an argument, where that chooses it."""

    call: Call
    asks: type[BaseModel]
    name: str = ""
    queue: str = "default"
    aliases: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    retry: Retry | None = None
    limits: Limits | None = None
    rate: Rate | None = None
    verdicts: Mapping[type[BaseException], str] = field(default_factory=dict)
    house: bool = False
    cpus: float = 0.0
    gpus: float = 0.0
    queue_of: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or getattr(self.call, "__name__", ""))

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.call)
