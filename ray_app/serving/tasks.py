"""Use cases of the task queue: a tenant's key sees and steers its own tasks, an operator's all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ray_app import logs
from ray_app.analytics.tasks import Wanted
from ray_app.catalog.tenant import SYSTEM
from ray_app.errors import InvalidField
from ray_app.events.schema import LATEST_MS, is_number, parse_id, parse_time, refuse_unknown
from ray_app.serving import submissions
from ray_app.serving.app import App
from ray_app.serving.fields import parse_count
from ray_app.serving.operators import only_operators
from ray_app.serving.use import Answer, Ask, Use
from ray_app.tasks.inspection import FIELDS as STEERED
from ray_app.tasks.inspection import Inspection, shown
from ray_app.tasks.queue import unknown
from ray_app.tasks.task import State, Submission, Task

MOST_LISTED = 1000
MOST_WAIT_S = 30.0


def inspection(app: App) -> Inspection:
    s = app.settings
    return Inspection(app.redis, s.stores.redis_prefix, app.queue, s.tasks, app.clock)


async def submit(app: App, tenant: str, raw: Ask) -> Answer:
    """One task; with `tasks` many; with `chain` or a list as `group` those that wait for one another. All or none."""
    whose = submissions.tenant_of(raw, tenant)
    queues = await inspection(app).known_queues()
    context = submissions.Context(tenant, whose, app.queue.names, queues, app.clock.now(), logs.request_id.get())
    if "tasks" in raw:
        refuse_unknown(raw, ("tasks", "tenant"))
        made = submissions.listed(raw["tasks"], context)
        return {"ids": await _submitted(app, tenant, whose, made)}
    if "chain" in raw or isinstance(raw.get("group"), list):
        plan, last = submissions.plan(raw, context)
        return {"ids": await _submitted(app, tenant, whose, plan.made), "group": plan.base, "last": list(last)}
    one = submissions.parse({k: v for k, v in raw.items() if k != "tenant"}, context)
    return {"id": (await _submitted(app, tenant, whose, [one]))[0]}


async def _submitted(app: App, tenant: str, whose: str, made: list[Submission]) -> list[str]:
    """Raises InvalidField for an id that is another tenant's task: nothing of that task may show. An operator's tasks
    may wait for any."""
    known = await app.queue.get_many({i for s in made for i in (s.id, *s.after) if i})
    foreign = {i for i, task in known.items() if task.tenant != whose}
    for one in made:
        waits = () if tenant == SYSTEM else one.after
        for field, ids in (("id", (one.id,)), ("after", waits)):
            if taken := foreign.intersection(i for i in ids if i):
                raise InvalidField(field, min(taken), "another: no task of this tenant may be called so")
    return await app.queue.submit(*made)


async def get(app: App, tenant: str, raw: Ask) -> Answer:
    """With `wait_s` it answers when the task has ended, or after that time as it is."""
    refuse_unknown(raw, ("id", "wait_s"))
    task = await _own(app, tenant, raw)
    wait_s = _seconds("wait_s", raw.get("wait_s", 0))
    if wait_s:
        task = await app.queue.wait(task.id, wait_s)
    return {**shown(task), "log": await app.queue.log(task.id)}


async def list_tasks(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("state", "group", "limit", "tenant"))
    group = parse_id("group", raw["group"]) if raw.get("group") is not None else None
    states = [_state(raw["state"])] if raw.get("state") is not None else list(State)
    found = await app.queue.find(states, _whose(raw, tenant), _limit(raw), group)
    return {"tasks": [shown(t) for t in found]}


async def cancel(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("id",))
    task = await _own(app, tenant, raw)
    return {"id": task.id, "state": (await app.queue.cancel(task.id)).value}


async def read_history(app: App, tenant: str, raw: Ask) -> Answer:
    names = ("id", "task", "group")
    refuse_unknown(raw, (*names, "state", "before", "limit", "tenant"))
    chosen = {f: parse_id(f, raw[f]) for f in names if raw.get(f) is not None}
    if raw.get("state") is not None:
        chosen["state"] = _state(raw["state"]).value
    wanted = Wanted(_before(raw), _limit(raw), tenant=_whose(raw, tenant) or "", **chosen)
    return {"attempts": await app.history.read(wanted)}


async def list_dead(app: App, tenant: str, raw: Ask) -> Answer:
    refuse_unknown(raw, ("limit", "tenant"))
    return {"tasks": [shown(t) for t in await app.queue.dead(_limit(raw), _whose(raw, tenant))]}


async def replay_dead(app: App, tenant: str, raw: Ask) -> Answer:
    return {"replayed": await app.queue.replay(*await _chosen(app, tenant, raw))}


async def drop_dead(app: App, tenant: str, raw: Ask) -> Answer:
    return {"dropped": await app.queue.drop(*await _chosen(app, tenant, raw))}


async def list_workers(app: App, tenant: str, raw: Ask) -> Answer:
    """Who is there, what they do, what waits for its time, what they can do, and what was done. `reserved` is empty: a
    slot claims nothing before it begins it."""
    only_operators(tenant)
    refuse_unknown(raw, ())
    look = inspection(app)
    return {
        "workers": [{**asdict(w), "running": w.running} for w in await look.workers()],
        "active": [shown(t) for t in await look.active()],
        "reserved": [],
        "scheduled": [{**shown(t), "due": due} for t, due in await look.scheduled()],
        "registered": sorted(h.name for h in app.queue.names.handlers),
        "stats": await look.stats(),
    }


async def list_queues(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ())
    return {"queues": [asdict(line) for line in await inspection(app).queues()]}


async def list_pools(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ())
    return {"pools": [asdict(p) for p in await inspection(app).pools()]}


async def get_pool(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("pool",))
    return asdict(await inspection(app).pool(parse_id("pool", raw.get("pool"))))


async def steer_pool(app: App, tenant: str, raw: Ask) -> Answer:
    only_operators(tenant)
    refuse_unknown(raw, ("pool", *STEERED))
    wanted = {f: raw[f] for f in STEERED if f in raw}
    return asdict(await inspection(app).steer(parse_id("pool", raw.get("pool")), wanted))


async def _own(app: App, tenant: str, raw: Ask) -> Task:
    """Raises NotFound for another tenant's task too, in the same words."""
    task = await app.queue.get(parse_id("id", raw.get("id")))
    if tenant not in (SYSTEM, task.tenant):
        raise unknown(task.id)
    return task


async def _chosen(app: App, tenant: str, raw: Ask) -> list[str]:
    refuse_unknown(raw, ("ids",))
    ids = raw.get("ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_LISTED:
        raise InvalidField("ids", ids, f"a list of 1 to {MOST_LISTED} ids of tasks")
    known = await app.queue.get_many(_distinct(parse_id("ids", one) for one in ids))
    return [i for i, task in known.items() if tenant in (SYSTEM, task.tenant)]


def _distinct(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def _whose(raw: Ask, tenant: str) -> str | None:
    """None: of every tenant, which an operator sees unless he names one."""
    found = submissions.tenant_of(raw, tenant)
    return None if found == SYSTEM and raw.get("tenant") is None else found


def _state(value: Any) -> State:
    if value not in {s.value for s in State}:
        raise InvalidField("state", value, ", ".join(s.value for s in State))
    return State(value)


def _limit(raw: Ask) -> int:
    return parse_count("limit", raw.get("limit", 100), MOST_LISTED)


def _before(raw: Ask) -> int:
    value = raw.get("before")
    if value is None:
        return LATEST_MS
    return parse_time("before", int(value) if isinstance(value, str) and value.isdigit() else value)


def _seconds(field: str, value: Any) -> float:
    """Also as text, since a query has nothing else."""
    try:
        found = float(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not is_number(found) or not 0 <= found <= MOST_WAIT_S:
        raise InvalidField(field, value, f"seconds, 0 to {MOST_WAIT_S:g}")
    return float(found)


TASKS, TASK, DEAD = "/api/v1/tasks", "/api/v1/tasks/{id:path}", "/api/v1/dead-tasks"
USES = (
    Use("submit_tasks", "POST", TASKS, submit, "Submit a task, many, a chain, or a group with a callback"),
    Use("list_tasks", "GET", TASKS, list_tasks, "Tasks by state and group, the newest first",
        query=("state", "group", "limit", "tenant")),
    Use("read_task_history", "GET", f"{TASKS}/history", read_history, "Attempts that ended, the newest first",
        query=("id", "task", "state", "group", "before", "limit", "tenant")),
    Use("cancel_task", "POST", f"{TASK}/cancel", cancel, "Cancel a task, also one that runs"),
    Use("get_task", "GET", TASK, get, "One task: state, result, error, attempts, times, progress, log",
        query=("wait_s",)),
    Use("list_dead_tasks", "GET", DEAD, list_dead, "Tasks that failed for good", query=("limit", "tenant")),
    Use("replay_dead_tasks", "POST", f"{DEAD}/replay", replay_dead, "Let dead tasks begin again"),
    Use("drop_dead_tasks", "POST", f"{DEAD}/drop", drop_dead, "Forget dead tasks"),
    Use("list_workers", "GET", "/api/v1/workers", list_workers,
        "Workers, what they do, can do and have done (operator's key)"),
    Use("list_queues", "GET", "/api/v1/queues", list_queues,
        "Queues: how many wait, and for how long the oldest has (operator's key)"),
    Use("list_pools", "GET", "/api/v1/pools", list_pools, "Pools of slots (operator's key)"),
    Use("get_pool", "GET", "/api/v1/pools/{pool}", get_pool, "One pool (operator's key)"),
    Use("steer_pool", "PUT", "/api/v1/pools/{pool}", steer_pool,
        "Scale a pool, pause it, restart its slots, give it other queues (operator's key)"),
)  # fmt: skip
