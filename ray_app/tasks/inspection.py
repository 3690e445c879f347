"""What operators see of workers, queues and pools, and how they steer the pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ray_app.clock import Clock
from ray_app.config import Tasks
from ray_app.errors import InvalidField, InvalidSettings, NotFound
from ray_app.tasks.pools import Pool, parse_queues, pools
from ray_app.tasks.queue import Line, Queue
from ray_app.tasks.script import workers_key
from ray_app.tasks.task import State, Task

if TYPE_CHECKING:
    from redis.asyncio import Redis

ONLINE_S = 5.0  # a guard says every second that it is here
MOST = 1000
MOST_SLOTS, MOST_REPLICAS = 64, 1000
FIELDS = ("slots", "paused", "queues", "replicas", "restart")


@dataclass(frozen=True, slots=True)
class Seen:
    """A guard: `slots` are {slot, pid, task}; `handlers` what it can do; `done` the tasks that its slots have ended."""

    id: str
    pool: str
    queues: Mapping[str, int]
    pid: int
    slots: Sequence[Mapping[str, Any]]
    done: int
    handlers: Sequence[str]
    seen_at: int
    online: bool

    @property
    def running(self) -> int:
        return sum(s["task"] is not None for s in self.slots)


@dataclass(frozen=True, slots=True)
class Stand:
    """A pool as it is wanted and as it is: `slots` of each replica; `replicas` 0: as its backlog asks; `workers` and
    `running`: guards that are online, and slots that have a task."""

    pool: str
    queues: Mapping[str, int]
    slots: int
    paused: bool
    replicas: int
    workers: int
    running: int
    waiting: int
    oldest_s: float


class Inspection:
    """`prefix`: of the Redis keys, as the settings have it."""

    def __init__(self, redis: Redis, prefix: str, queue: Queue, settings: Tasks, clock: Clock) -> None:
        self._redis, self._workers, self._queue = redis, workers_key(prefix), queue
        self._settings, self._clock = settings, clock
        self._pools = pools(settings)

    async def workers(self) -> list[Seen]:
        """Guards that were seen lately, those of one pool beside one another."""
        ids: Any = await self._redis.zrange(self._workers, 0, -1, withscores=True)
        async with self._redis.pipeline(transaction=False) as pipe:
            for id, _ in ids:
                pipe.get(f"{self._queue.prefix}:worker:{id.decode()}")
            found: list[Any] = await pipe.execute()
        now = self._clock.now()
        told = [(orjson.loads(text), int(at)) for text, (_, at) in zip(found, ids, strict=True) if text]
        seen = [Seen(**about, seen_at=at, online=now - at < ONLINE_S * 1000) for about, at in told]
        return sorted(seen, key=lambda w: (w.pool, w.id))

    async def active(self) -> list[Task]:
        """Tasks that a slot has now, the longest running first."""
        ids: Any = await self._redis.zrange(f"{self._queue.prefix}:leases", 0, MOST - 1)
        found = await self._of(ids)
        return sorted((t for t in found if t.state is State.STARTED), key=lambda t: t.started_at)

    async def scheduled(self) -> list[tuple[Task, int]]:
        """Tasks that wait for their time, and when it comes (ms): of an ETA, a retry, or the next look at a Ray Job."""
        due: Any = await self._redis.zrange(f"{self._queue.prefix}:delayed", 0, MOST - 1, withscores=True)
        at = {id.decode(): int(score) for id, score in due}
        return [(t, at[t.id]) for t in await self._of(id for id, _ in due)]

    async def _of(self, ids: Iterable[bytes]) -> list[Task]:
        return list((await self._queue.get_many(i.decode() for i in ids)).values())

    async def counts(self) -> Mapping[str, int]:
        """As Queue.counts."""
        return await self._queue.counts()

    async def stats(self) -> dict[str, Any]:
        """Counts of what there is now, and per handler how many attempts ended in which state, and their seconds."""
        found: Any = await self._redis.hgetall(f"{self._queue.prefix}:counts")
        handlers: dict[str, dict[str, float]] = {}
        for key, value in found.items():
            name, _, what = key.decode().rpartition("|")
            told = handlers.setdefault(name, {})
            told["seconds" if what == "ms" else what] = int(value) / 1000 if what == "ms" else int(value)
        return {**await self.counts(), "handlers": handlers}

    async def queues(self) -> list[Line]:
        """Every queue that a pool serves, that a route or a handler names, by its name."""
        return await self._queue.lengths(sorted(await self.known_queues()))

    async def known_queues(self) -> set[str]:
        """Names of queues; a task in another would never begin."""
        named = {h.queue for h in self._queue.names.handlers} | set(self._settings.routes.values())
        served = [queues for pool in self._pools for queues in [(await self._wanted(pool)).queues]]
        return named.union(*served)

    async def pools(self) -> list[Stand]:
        return [await self.pool(name) for name in self._pools]

    async def pool(self, name: str) -> Stand:
        """Raises NotFound, naming the known ones."""
        wanted, raw = await self._wanted(name), await self._hash(name)
        at_work = [w for w in await self.workers() if w.pool == name and w.online]
        lines = await self._queue.lengths(wanted.queues)
        return Stand(
            name, wanted.queues, wanted.slots, raw.get("paused") == "1", int(raw.get("replicas") or 0), len(at_work),
            sum(w.running for w in at_work), sum(x.length for x in lines),
            max((x.oldest_s for x in lines), default=0.0),
        )  # fmt: skip

    async def steer(self, name: str, wanted: Mapping[str, Any]) -> Stand:
        """Change what is sent of FIELDS; None: as the settings have it. Guards heed it within a second, replicas as the
        autoscaling looks. Raises NotFound, InvalidField."""
        own = self._pool(name)
        change: dict[Any, Any] = {field: _written(field, value, own) for field, value in wanted.items()}
        if change.pop("restart", "0") == "1":
            await self._redis.hincrby(self._key(name), "restart", 1)
        if change:
            await self._redis.hset(self._key(name), mapping=change)
        return await self.pool(name)

    async def _wanted(self, name: str) -> Pool:
        own, raw = self._pool(name), await self._hash(name)
        queues = parse_queues(raw["queues"], "queues") if raw.get("queues") else own.queues
        return Pool(name, queues, int(raw.get("slots") or own.slots))

    async def _hash(self, name: str) -> dict[str, str]:
        found: Any = await self._redis.hgetall(self._key(name))
        return {k.decode(): v.decode() for k, v in found.items()}

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            known = ", ".join(self._pools)
            raise NotFound(f"pool {name!r} is unknown. Known: {known} (tasks.pools)", field="pool", value=name)
        return self._pools[name]

    def _key(self, name: str) -> str:
        return f"{self._queue.prefix}:pool:{name}"


def _written(field: str, value: Any, own: Pool) -> str:
    """As the hash has it. Raises InvalidField."""
    if field not in FIELDS:
        raise InvalidField(field, value, f"known: {', '.join(FIELDS)}")
    if field in ("paused", "restart"):
        return str(int(_flag(field, value)))
    if field == "slots":
        return "" if value is None else str(_whole(field, value, 1, MOST_SLOTS))
    if field == "replicas":
        return str(_whole(field, value or 0, 0, MOST_REPLICAS))
    return _queues(value, own)


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidField(field, value, "true, false")
    return value


def _whole(field: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidField(field, value, f"{least}..{most}")
    return value


def _queues(value: Any, own: Pool) -> str:
    """`default:5+bulk:1`, or the same as an object. None is written out: a guard keeps what it was told last."""
    if value is None:
        return own.written
    text = "+".join(f"{q}:{w}" for q, w in value.items()) if isinstance(value, Mapping) else str(value)
    try:
        parse_queues(text, "queues")
    except InvalidSettings:
        raise InvalidField("queues", value, "queue:weight+queue:weight, or an object; weights 1 to 9999") from None
    return text


def shown(task: Task) -> dict[str, Any]:
    """As JSON has it."""
    found = asdict(task)
    found["attempts"] = found.pop("attempt")
    return {**found, "state": task.state.value, "after": list(task.after)}
