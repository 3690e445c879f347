"""The guard: one process for each replica and pool. It forks the slots, renews their leases, ends what runs too long,
and outlives neither its worker nor lets a slot outlive it. It has one thread and no loop, so that it may fork."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from redis.exceptions import RedisError

from ray_app.clock import new_id
from ray_app.errors import InvalidSettings
from ray_app.tasks.interrupt import CANCEL
from ray_app.tasks.pools import Pool, parse_queues
from ray_app.tasks.queue import delay_s, retry_of
from ray_app.tasks.script import SCRIPT, arguments
from ray_app.tasks.seat import Held, Seat
from ray_app.tasks.slot import Slot, Trade, tell_known

logger = logging.getLogger(__name__)
TICK_S, LOOK_S, BEAT_S = 0.05, 1.0, 0.25
GRACE_S = 5.0  # a cancelled handler has this long to end
SEEN_S = 30  # for how long a guard that ended is still shown
_PR_SET_PDEATHSIG = 1
LOST, CANCELLED = 0, 2  # of what `renew` of queue.lua answers; with the others all is well
OURS = (RedisError, OSError)
# Of a lease: for how long a slot may go on without word from Redis. One call takes a quarter of it at most: the guard
# may be inside one when this time is over, and still stops the slot before another worker may have its task.
SURE, PATIENCE = 0.75, 0.125
MOST_PAUSE_S = 10.0  # before a slot is forked again that ended without a task


@dataclass
class Post:
    """A slot as its guard knows it. Times are the monotonic clock's (s)."""

    slot: str
    pid: int
    seat: Seat
    token: str = ""
    lease_until: float = 0.0
    renew_at: float = 0.0
    stopped: bool = False
    cancel_at: float = 0.0
    why: str = ""  # it was killed for this reason
    outcome: str = ""  # and its task ends so; "": as after a failure
    last: Held | None = None

    def kill(self, why: str, outcome: str = "") -> None:
        """The process group: what the handler started too."""
        self.why, self.outcome = self.why or why, self.outcome or outcome
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass
class Guard:
    """`workers`: the key under which guards are seen; `orders`: a file that is read for "drain SECONDS", and whose end
    means that the worker is gone; `say` tells the worker how it stands."""

    pool: Pool
    trade: Trade
    workers: str
    orders: int
    say: Callable[[dict[str, Any]], None]
    id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        self._redis = self.trade.redis()
        self._lease_s = self.trade.settings.lease_s
        self._sure_s = self._lease_s * SURE
        patience = min(1.0, self._lease_s * PATIENCE)
        self._redis.connection_pool.connection_kwargs.update(
            socket_timeout=patience, socket_connect_timeout=patience
        )  # fmt: skip
        self._script = self._redis.register_script(SCRIPT)
        self._posts: list[Post] = []
        self._untold: list[dict[str, Any]] = []
        self._look_at = self._beat_at = self._drained_by = self._fork_at = self._pause_s = 0.0
        self._slots, self._queues = self.pool.slots, self.pool
        self._generation: tuple[str, str | None] | None = None  # which restart and which queues its slots began with
        self._done = 0
        self._rng = random.Random(self.id)

    def run(self) -> None:
        """Until its worker is gone, or all slots have ended after "drain"."""
        gc.collect()
        gc.freeze()  # so that slots share what is loaded by now
        while True:
            if select.select([self.orders], [], [], TICK_S)[0]:
                order = os.read(self.orders, 1000).decode().split()
                if not order:
                    break
                self._drain(float(order[1]))
            self.tick()
            if self._drained_by and not self._posts:
                return
        for post in self._posts:
            post.kill("its worker is gone")
        while self._posts:
            self._bury()
            time.sleep(TICK_S / 10)  # until the system has ended them: a poll of other processes, not a race

    def tick(self) -> None:
        now = time.monotonic()
        self._bury()
        for post in self._posts:
            self._judge(post, now)
        self._renew(now)
        if self._drained_by and now > self._drained_by:
            for post in self._posts:
                post.kill("its worker ends", "PENDING")
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look()
        while not self._drained_by and len(self._posts) < self._slots and now >= self._fork_at:
            self._posts.append(self._fork())
        self._beat()

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            held = sum(p.last is not None for p in self._posts)
            self.say({"guard": self.id, "slots": [p.pid for p in self._posts], "held": held, "done": self.done})

    @property
    def done(self) -> int:
        """Tasks that its slots have ended so far."""
        return self._done + sum(p.seat.done for p in self._posts)

    def _drain(self, seconds: float) -> None:
        self._drained_by = time.monotonic() + seconds
        for post in self._posts:
            post.seat.ask_to_end()

    def _fork(self) -> Post:
        seat, slot = Seat(), new_id()
        parent, pid = os.getpid(), os.fork()
        if pid:
            return Post(slot, pid, seat)
        status = 1
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                self._become(slot, seat)
                status = 0
        except BaseException:
            logger.exception("a slot has ended")
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _become(self, slot: str, seat: Seat) -> None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)  # what a handler prints is no word to the worker
        Slot(slot, self._queues, seat, self.trade).run()

    def _bury(self) -> None:
        for post in list(self._posts):
            pid, status = os.waitpid(post.pid, os.WNOHANG)
            post.last = held = post.seat.held()
            if pid == 0:
                continue
            quick = held is None and status != 0 and not post.why
            self._pause_s = min(MOST_PAUSE_S, 2 * self._pause_s or 2 * TICK_S) if quick else 0.0
            self._fork_at = time.monotonic() + self._pause_s
            post.kill("")  # what it started and left behind
            self._posts.remove(post)
            self._done += post.seat.done
            if held is not None and post.outcome != "LOST":
                self._untold.append(self._end_of(held, post, status))
        self._tell_all()

    def _end_of(self, held: Held, post: Post, status: int) -> dict[str, Any]:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        error = post.why or f"its process ended by {how}"
        told: dict[str, Any] = {"id": held.id, "token": held.token, "error": error, "lost": True}
        if post.outcome:
            return {**told, "outcome": post.outcome, "result": "", "dead": False}
        retry = retry_of(self.trade.names.of(held.name), self.trade.settings)
        if held.attempt > retry.times:
            return {**told, "outcome": "FAILURE", "result": "", "dead": True}
        wait_s = 0.0 if error == "its worker is gone" else delay_s(retry, held.attempt, self._rng)
        return {**told, "outcome": "RETRY", "due": int((time.time() + wait_s) * 1000)}

    def _tell_all(self) -> None:
        """What Redis does not take now is told later; after the lease it goes to another anyway."""
        while self._untold:
            try:
                self._call("turn", {"finish": self._untold[0]})
            except OURS:
                return
            self._untold.pop(0)

    def _judge(self, post: Post, now: float) -> None:
        held = post.last
        if held is None:
            post.token = ""
            return
        if held.token != post.token:
            post.token, post.cancel_at = held.token, 0.0
            post.lease_until, post.renew_at = held.since + self._sure_s, held.since + self._lease_s / 3
        if now > held.until:
            post.kill(f"HardLimit: the attempt has run for its hard limit, {held.until - held.since:.1f} s")
        elif post.cancel_at and now > post.cancel_at + GRACE_S:
            post.kill("cancelled", "REVOKED")
        else:
            self._stop_unsure(post, now)

    def _stop_unsure(self, post: Post, now: float) -> None:
        """Whose the task is, Redis must say; until then nothing may happen."""
        if post.token and now > post.lease_until and not post.stopped:
            post.stopped = True
            self._signal(post, signal.SIGSTOP)

    def _renew(self, now: float) -> None:
        posts = [p for p in self._posts if p.token and (now >= p.renew_at or p.stopped)]
        if not posts:
            return
        held = [(p.last.id, p.token) for p in posts if p.last is not None]
        asked_at = time.monotonic()
        try:
            answers = self._call("renew", {"lease": int(self._lease_s * 1000), "held": held})
        except OURS as e:
            logger.warning("leases could not be renewed; it is tried again", extra={"why": str(e)[:200]})
            return
        for post, answer in zip(posts, answers, strict=True):
            self._renewed(post, int(answer), asked_at)

    def _renewed(self, post: Post, answer: int, now: float) -> None:
        held = post.seat.held()
        if answer == LOST and held is not None and held.token == post.token:
            post.kill("its task is another's now", "LOST")
            return
        post.lease_until, post.renew_at = now + self._sure_s, now + min(1.0, self._lease_s / 3)
        if post.stopped:
            post.stopped = False
            self._signal(post, signal.SIGCONT)
        if answer == CANCELLED and not post.cancel_at:
            post.cancel_at = now
            post.seat.ask_to_cancel(post.token)
            with suppress(ProcessLookupError):
                os.kill(post.pid, CANCEL)

    @staticmethod
    def _signal(post: Post, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(post.pid, number)

    def _look(self) -> None:
        """Say that we are here, see what operators want, and give what nobody renews to others."""
        try:
            seconds, micros = self._redis.time()
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(self.workers, {self.id: seconds * 1000 + micros // 1000})
                pipe.zremrangebyscore(self.workers, "-inf", (seconds - SEEN_S) * 1000)
                pipe.set(f"{self.trade.prefix}:worker:{self.id}", orjson.dumps(self._about()), ex=SEEN_S)
                tell_known(pipe, self.trade)
                pipe.hgetall(f"{self.trade.prefix}:pool:{self.pool.name}")
                found = pipe.execute()[-1]
            self._call("reap", {"lease": int(self._lease_s * 1000)})
        except OURS:
            return
        try:
            self._heed({k.decode(): v.decode() for k, v in found.items()})
        except (ValueError, InvalidSettings) as e:
            logger.error("what is wanted of the pool cannot be read", extra={"pool": self.pool.name, "why": str(e)})

    def _heed(self, wanted: dict[str, str]) -> None:
        self._slots = int(wanted.get("slots") or self.pool.slots)
        for post in self._posts[self._slots :]:
            post.seat.ask_to_end()
        queues = wanted.get("queues")
        known = self._generation
        self._generation = (wanted.get("restart", ""), queues)  # slots listen at the queues that they began with
        self._queues = replace(self.pool, queues=parse_queues(queues, "queues")) if queues else self.pool
        if known not in (None, self._generation):
            for post in self._posts:
                post.seat.ask_to_end()

    def _about(self) -> dict[str, Any]:
        held = [{"slot": p.slot, "pid": p.pid, "task": p.last.id if p.last else None} for p in self._posts]
        return {
            "id": self.id, "pool": self.pool.name, "queues": dict(self._queues.queues), "pid": os.getpid(),
            "slots": held, "done": self.done, "handlers": [h.name for h in self.trade.names.handlers],
        }  # fmt: skip

    def _call(self, op: str, ask: Any) -> Any:
        """While it lasts leases may run out, and the worker waits for a word."""
        try:
            return self._script(keys=[self.trade.prefix], args=arguments(op, self.trade.settings.result_keep_s, ask))
        finally:
            now = time.monotonic()
            for post in self._posts:
                self._stop_unsure(post, now)
            self._beat()
