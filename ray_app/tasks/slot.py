"""A slot: a process that does one task at a time. It ends one task and claims the next in one call."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import psutil
from redis.exceptions import RedisError

from ray_app.config import Tasks
from ray_app.stores.redis_sync import away
from ray_app.tasks.interrupt import Interrupts, Thrown
from ray_app.tasks.names import Names, as_json, checked
from ray_app.tasks.pools import Pool
from ray_app.tasks.queue import PayloadTooLarge, delay_s, retry_of
from ray_app.tasks.running import Bench, Running, printable
from ray_app.tasks.script import SCRIPT, arguments, fields_of, task_of
from ray_app.tasks.seat import Held, Seat
from ray_app.tasks.task import Task
from ray_app.tasks.work import Fail, Handler, Limits, NotMine, Parked, RetryAsked, Revoked, SoftLimit

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)
IDLE_S, AWAY_S, LOOK_S = 1.0, 0.1, 2.0  # between two looks: at an empty queue, at a Redis that is away, at a Ray Job
MOST_ERROR = 2000
KNOWN_S = 86400
MOST_WAIT_S = 10 * 365 * 86400.0  # for a try that a handler asks for
Finish = dict[str, Any]


@dataclass(frozen=True)
class Trade:
    """What every slot of a process works with. `open_stores` opens the World; it is called at the first use."""

    redis: Callable[[], Redis]
    prefix: str
    settings: Tasks
    names: Names
    open_stores: Callable[[], Any]

    @property
    def known_key(self) -> str:
        """A set: the handlers of this process; of all that know the same ones."""
        names = "\n".join(sorted(h.name for h in self.names.handlers))
        return f"{self.prefix}:known:{sha256(names.encode()).hexdigest()[:16]}"


def tell_known(redis: Redis, trade: Trade) -> None:
    """Guards repeat it, so that a Redis that went back in time knows it again."""
    redis.sadd(trade.known_key, "", *(h.name for h in trade.names.handlers))
    redis.expire(trade.known_key, KNOWN_S)


class Slot:
    """`id` is of this process alone: no two that ever ran share one."""

    def __init__(self, id: str, pool: Pool, seat: Seat, trade: Trade) -> None:
        self.id, self._pool, self._seat, self._trade = id, pool, seat, trade
        self._redis = trade.redis()
        self._script = self._redis.register_script(SCRIPT)
        self._interrupts = Interrupts(seat)
        self._bench = Bench(trade.open_stores, trade.settings, trade.names)
        self._claims, self._ended, self._spoilt = 0, 0, False
        self._rng = random.Random(id)
        rated = ((h.name, h.rate) for h in trade.names.handlers if h.rate is not None)
        self._claim = {
            "slot": id, "pool": pool.name, "queues": pool.written, "known": trade.known_key,
            "lease": int(trade.settings.lease_s * 1000),
            "rates": {n: {"ms": 1000 / r.per_s, "by_tenant": r.by_tenant} for n, r in rated},
        }  # fmt: skip

    def run(self) -> None:
        """Until its guard asks it to end, or it has done `recycle_after` tasks."""
        self._retried(self.tell_known)
        finish: Finish | None = None
        while True:
            finish, pause = self.step(finish, claims=not self._seat.ending and not self._worn())
            if finish is None and (self._seat.ending or self._worn()):
                break
            if finish is None:
                self._rest(pause)
        self.close()

    def close(self) -> None:
        self._bench.close()
        self._redis.close()

    def step(self, finish: Finish | None, claims: bool = True) -> tuple[Finish | None, float]:
        """Tell the end of one task, claim the next and do it: how it ended, to be told in the next step; None where
        nothing was claimed, with the seconds until something may be due."""
        self._claims += 1
        token = f"{self.id}.{self._claims}"
        ask = {"finish": finish, "claim": {**self._claim, "token": token}} if claims else {"finish": finish}
        if finish is None:
            ask.pop("finish")
            if not claims:
                return None, 0.0
        asked_at, answer = self._retried(lambda: (time.monotonic(), self._call("turn", ask)))
        if len(answer) == 2:
            self._seat.hold(None)
            return None, min(IDLE_S, int(answer[1]) / 1000) if int(answer[1]) >= 0 else IDLE_S
        fields = fields_of(answer[2])
        done = self._do(task_of(fields), token, asked_at, fields.get("cancel") == "1")
        self._ended += 1
        return done, 0.0

    def _worn(self) -> bool:
        return self._spoilt or self._ended >= self._trade.settings.recycle_after

    def _leave_nothing(self) -> None:
        """Children that an attempt left behind when it failed would meet the next one."""
        if not self._interrupts.can:
            return  # a thread of another process, whose children are its own
        left = psutil.Process().children(recursive=True)
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, 1.0)
        self._spoilt = self._spoilt or bool(left)

    def tell_known(self) -> None:
        tell_known(self._redis, self._trade)

    def _rest(self, seconds: float) -> None:
        try:
            self._redis.blpop([f"{self._trade.prefix}:wake:{q}" for q in self._pool.queues], max(0.005, seconds))
        except (RedisError, OSError):
            time.sleep(AWAY_S)  # until Redis is back: a poll of another process, not a race

    def _call(self, op: str, ask: Any) -> Any:
        return self._script(keys=[self._trade.prefix], args=arguments(op, self._trade.settings.result_keep_s, ask))

    def _retried(self, call: Callable[[], Any]) -> Any:
        """Until Redis answers. Each call of the script may be told twice."""
        while True:
            try:
                return call()
            except (RedisError, OSError) as e:
                if not away(self._redis, e):
                    raise
                time.sleep(AWAY_S)  # a poll of another process, not a race

    def _do(self, task: Task, token: str, since: float, cancelled: bool) -> Finish:
        handler = self._trade.names.of(task.name)
        limits = handler.limits or Limits(self._trade.settings.soft_limit_s, self._trade.settings.hard_limit_s)
        held = Held(task.id, token, task.name, task.attempt, since, time.monotonic() + limits.hard_s)
        self._seat.hold(held)
        run = Running(task, lambda word: self._tell(task.id, token, word), self._bench)
        try:
            if cancelled and task.following:
                run.stop_job(task.following)
                raise Revoked("the task was cancelled")
            self._interrupts.alarm(limits.soft_s)
            end = self._ended_well(self._attempt(handler, task, run, token))
        except Parked as p:
            end = _parked(p)
        except (Revoked, NotMine) as e:
            self._leave_nothing()
            # One that is cancelled while it begins a job: the next look ends that too.
            end = _parked(Parked(run.following)) if run.following else _end("REVOKED", _told(e)[0])
        except BaseException as e:  # whatever a handler raises ends its attempt, and not its slot
            self._leave_nothing()
            end = self._failed(handler, task, e)
        finally:
            self._interrupts.alarm(0)
        # It is told now, for as long as it takes: the limit was the handler's.
        self._seat.hold(Held(task.id, token, task.name, task.attempt, since, float("1e18")), done=1)
        return {"id": task.id, "token": token, **end}

    def _attempt(self, handler: Handler, task: Task, run: Running, token: str) -> Any:
        try:
            asked = checked(handler, task.argument)
        except Exception as e:
            raise Fail(str(e)) from e
        if handler.cpus or handler.gpus:
            return run.elsewhere(handler)
        if not handler.is_async:
            with self._interrupts.open(token):
                return handler.call(asked, run)
        thrown = Thrown(handler.call(asked, run))
        future = self._bench.begin(thrown)
        while True:
            try:
                with self._interrupts.open(token):
                    return future.result()
            except (SoftLimit, Revoked) as e:
                if future.done():
                    raise
                self._bench.loop.call_soon_threadsafe(thrown.throw, e)

    def _ended_well(self, result: Any) -> Finish:
        try:
            written = as_json(result)
        except TypeError as e:
            raise Fail(f"its result is no JSON: {e}") from e
        most = self._trade.settings.max_payload_bytes
        if len(written) > most:
            raise Fail(PayloadTooLarge("result", len(written), most).message)
        return _end("SUCCESS", "", written.decode())

    def _failed(self, handler: Handler, task: Task, e: BaseException) -> Finish:
        text, line = _told(e)
        verdict, retry = verdict_of(handler, e), retry_of(handler, self._trade.settings)
        if verdict == "retry" and task.attempt <= retry.times:
            asked_s = e.after_s if isinstance(e, RetryAsked) else None
            wait_s = delay_s(retry, task.attempt, self._rng) if asked_s is None else min(max(asked_s, 0.0), MOST_WAIT_S)
            return {"outcome": "RETRY", "error": text, "line": line, "due": int((time.time() + wait_s) * 1000)}
        return {**_end("FAILURE", text, dead=verdict != "drop"), "line": line}

    def _tell(self, id: str, token: str, word: dict[str, Any]) -> bool:
        return bool(self._retried(lambda: self._call("tell", {"id": id, "token": token, **word})))


def _told(e: BaseException) -> tuple[str, str]:
    """The error of a task, and the line of its log. A handler's exception may be of a class that cannot be printed."""
    try:
        text = f"{type(e).__name__}: {e}"
    except Exception:
        text = f"{type(e).__name__}: it cannot be printed"
    return printable(text, MOST_ERROR), printable("".join(traceback.format_exception(e))[-MOST_ERROR:], MOST_ERROR)


def _parked(p: Parked) -> Finish:
    due = int((time.time() + LOOK_S) * 1000)
    return {"outcome": "PARKED", "following": p.following, "after": p.after, "due": due}


def _end(outcome: str, error: str, result: str = "", dead: bool = False) -> Finish:
    return {"outcome": outcome, "error": error, "result": result, "dead": dead}


def verdict_of(handler: Handler, e: BaseException) -> str:
    """What the handler says of the nearest class of this exception."""
    if isinstance(e, Fail):
        return "fail"
    return next((handler.verdicts[c] for c in type(e).__mro__ if c in handler.verdicts), "retry")
