"""Handlers of the tests' guards: each does what its argument says, and leaves a trace in Redis by the task's id.

`python -m tests.crash.handlers` is such a guard.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from collections import deque
from itertools import repeat
from typing import Any

from pydantic import BaseModel, ConfigDict

from ray_app.tasks.task import State, Submission
from ray_app.tasks.work import Fail, Handler, Limits, Rate, Retry, RetryAsked, Run, SoftLimit
from ray_app.wiring.guard import serve

SOON = Retry(times=3, first_s=0.05, most_s=0.2)


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")
    seconds: float = 0.0
    failures: int = 0
    value: Any = None


async def mark(run: Run, what: str, **more: Any) -> None:
    """An effect that a test counts: one entry of the list of this task."""
    await run.stores.redis.rpush(f"effects:{run.id}", what)


async def nap(ask: Ask, run: Run) -> Any:
    """Fails `failures` times, then sleeps and returns its value."""
    await mark(run, f"begin {run.attempt} {os.getpid()}")
    await asyncio.sleep(ask.seconds)
    if run.attempt <= ask.failures:
        raise ValueError(f"failure {run.attempt}")
    await run.still_mine()
    await mark(run, f"end {run.attempt} {os.getpid()}")
    return ask.value


def noop(ask: Ask, run: Run) -> Any:
    return ask.value


def toil(ask: Ask, run: Run) -> Any:
    """As nap, but plain."""
    run.wait(mark(run, f"begin {run.attempt} {os.getpid()}"))
    time.sleep(ask.seconds)
    if run.attempt <= ask.failures:
        raise ValueError(f"failure {run.attempt}")
    run.wait(run.still_mine())
    run.wait(mark(run, f"end {run.attempt} {os.getpid()}"))
    return ask.value


async def steps(ask: Ask, run: Run) -> Any:
    """Tells its steps: each is refused when the task is another's."""
    await mark(run, f"begin {run.attempt} {os.getpid()}")
    for k in range(ask.value):
        await run.log(f"step {k} of {run.attempt}")
        await asyncio.sleep(ask.seconds)
    await mark(run, f"end {run.attempt} {os.getpid()}")
    return run.attempt


def doze(ask: Ask, run: Run) -> str:
    """Plain, in the slot's main thread; lets its guard see that it can clean up."""
    run.wait(mark(run, f"begin {run.attempt} {os.getpid()}"))
    try:
        time.sleep(ask.seconds)
    except SoftLimit:
        run.wait(mark(run, "cleaned"))
        return "cleaned"
    return "slept"


async def drowse(ask: Ask, run: Run) -> str:
    """The same as a coroutine."""
    try:
        await asyncio.sleep(ask.seconds)
    except SoftLimit:
        await mark(run, "cleaned")
        return "cleaned"
    return "slept"


def burn(ask: Ask, run: Run) -> None:
    """A busy loop in C that no signal handler of Python interrupts, with a child that sleeps."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    run.wait(mark(run, f"burn {os.getpid()} {child.pid}"))
    deque(repeat(0), maxlen=0)


def crash(ask: Ask, run: Run) -> None:
    ctypes.string_at(0)


async def picky(ask: Ask, run: Run) -> None:
    if ask.value == "fail":
        raise Fail("it will never do")
    if ask.value == "drop":
        raise KeyError("nobody cares")
    if ask.value == "again" and run.attempt == 1:
        raise RetryAsked("not yet", after_s=0.05)


async def talk(ask: Ask, run: Run) -> None:
    for k in range(3):
        await run.progress(k + 1, 3, f"step {k + 1}")
        await run.log(f"line {k + 1}")
    await asyncio.sleep(ask.seconds)


async def fan(ask: Ask, run: Run) -> list[Any]:
    """Submits `value` children, and adds up what they returned."""
    await mark(run, f"begin {run.attempt}")
    children = await run.gather(*(Submission("nap", {"value": k, "seconds": ask.seconds}) for k in range(ask.value)))
    return [c.result if c.state.value == "SUCCESS" else c.state.value for c in children]


async def add(ask: Ask, run: Run) -> list[Any]:
    """What came before it returned, or how it ended, and then its own value."""
    await mark(run, f"add {run.attempt}")
    return [t.result if t.state is State.SUCCESS else t.state.value for t in await run.before()] + [ask.value]


def leave_child(ask: Ask, run: Run) -> None:
    """Fails while its child goes on."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    run.wait(mark(run, f"child {os.getpid()} {child.pid}"))
    raise Fail("it left a child")


async def linger(ask: Ask, run: Run) -> None:
    """Cleans up slowly when it is cancelled or at its limit."""
    await mark(run, "begin")
    try:
        await asyncio.sleep(ask.seconds)
    finally:
        await asyncio.sleep(0.3)
        await mark(run, "cleaned")


def stubborn(ask: Ask, run: Run) -> None:
    """Ignores whatever is raised in it."""
    run.wait(mark(run, f"begin {run.attempt} {os.getpid()}"))
    while True:
        try:
            time.sleep(60)
        except BaseException:
            run.wait(mark(run, "ignored"))


def leave(ask: Ask, run: Run) -> None:
    os._exit(3)


def wait_in_loop(ask: Ask, run: Run) -> str:
    """Plain, and waits for a coroutine, which ends with it."""

    async def long() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await mark(run, "ended too")

    try:
        run.wait(long())
    except SoftLimit:
        return "cleaned"
    return "slept"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


def odd(ask: Ask, run: Run) -> Any:
    if ask.value == "unprintable":
        raise Unprintable
    if ask.value == "half":
        run.wait(run.log("a half \ud800"))
        run.wait(run.progress(1, note="\ud800"))
        raise ValueError("a half \ud800")
    if ask.value == "never":
        raise RetryAsked("in the end of time", after_s=float("inf"))
    return {"object": object(), "large": "x" * (2 << 20), "nan": float("nan"), "set": {2, 1}}[ask.value]


async def quits(ask: Ask, run: Run) -> None:
    await asyncio.sleep(0)
    if ask.value == "exit":
        sys.exit("enough")
    raise KeyboardInterrupt


HANDLERS = (
    Handler(nap, Ask, retry=SOON, aliases=("old.tasks.nap",), positional=("seconds", "failures")),
    Handler(noop, Ask, retry=SOON),
    Handler(toil, Ask, retry=SOON),
    Handler(steps, Ask, retry=SOON),
    Handler(doze, Ask, retry=SOON, limits=Limits(0.5, 5.0)),
    Handler(drowse, Ask, retry=SOON, limits=Limits(0.5, 5.0)),
    Handler(burn, Ask, retry=Retry(0), limits=Limits(3.0, 4.0)),
    Handler(burn, Ask, name="burn_long", retry=SOON),
    Handler(crash, Ask, retry=SOON),
    Handler(picky, Ask, retry=SOON, verdicts={KeyError: "drop"}),
    Handler(talk, Ask, retry=SOON),
    Handler(fan, Ask, retry=SOON),
    Handler(add, Ask, retry=SOON),
    Handler(noop, Ask, name="sweep", retry=SOON, house=True),
    Handler(linger, Ask, retry=Retry(0), limits=Limits(0.5, 30.0)),
    Handler(linger, Ask, name="linger_long", retry=Retry(0)),
    Handler(stubborn, Ask, retry=Retry(0), limits=Limits(0.3, 1.2)),
    Handler(leave_child, Ask),
    Handler(leave, Ask, retry=SOON),
    Handler(wait_in_loop, Ask, retry=Retry(0), limits=Limits(0.5, 30.0)),
    Handler(odd, Ask, retry=Retry(0)),
    Handler(quits, Ask, retry=SOON),
    Handler(doze, Ask, name="sleep_plain", retry=SOON),
    Handler(noop, Ask, name="slow_noop", rate=Rate(20.0)),
)

if __name__ == "__main__":
    serve(HANDLERS)
