"""`lemo task`: submit, follow and cancel tasks; dead letters; workers, queues and pools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table

from ray_app.catalog.tenant import SYSTEM, parse_tenant
from ray_app.cli.progress import console
from ray_app.cli.world import with_world
from ray_app.errors import InvalidField, LemoError, NotFound
from ray_app.tasks.task import ENDED, State, Task

if TYPE_CHECKING:
    from ray_app.tasks.inspection import Inspection, Stand
    from ray_app.wiring.stores import World

tasks = typer.Typer(no_args_is_help=True, help="The task queue and its workers.")
Id = Annotated[str, typer.Argument(help="of the task")]
Ids = Annotated[list[str] | None, typer.Argument(help="of tasks")]
Json = Annotated[bool, typer.Option("--json", help="one JSON value a line")]
Limit = Annotated[int, typer.Option(min=1, max=1000)]
Tenant = Annotated[str | None, typer.Option(help="of one tenant; of every one unless set")]
Every = Annotated[bool, typer.Option("--all")]
MOST_SHOWN = 60  # characters of an error in a table


class TaskFailed(LemoError):
    """A task that was waited for did not succeed."""

    reason = "TASK_FAILED"


def _look(work: Callable[[Inspection], Awaitable[None]]) -> None:
    from ray_app.wiring.tasks import inspection

    with_world(lambda world: work(inspection(world)))


@tasks.command()
def submit(
    name: Annotated[str, typer.Argument(help="of the handler, or one of its old names; see `lemo task registered`")],
    argument: Annotated[str, typer.Argument(help="JSON, an object")] = "{}",
    id: Annotated[str | None, typer.Option(help="the same id twice is one task")] = None,
    tenant: Annotated[str, typer.Option(help="whose task")] = SYSTEM,
    countdown_s: Annotated[float, typer.Option(help="not before so many seconds from now", min=0)] = 0.0,
    queue: Annotated[str | None, typer.Option(help="the handler's unless set")] = None,
) -> None:
    """Submit a task and print its id."""
    from ray_app.serving.submissions import Context, parse
    from ray_app.wiring.tasks import inspection

    asked = {"name": name, "argument": _object(argument), "countdown_s": countdown_s, "id": id, "queue": queue}

    async def work(w: World) -> None:
        queues = await inspection(w).known_queues()
        whose = tenant if tenant == SYSTEM else parse_tenant(tenant)
        context = Context(SYSTEM, whose, w.queue.names, queues, w.clock.now())
        print((await w.queue.submit(parse(asked, context)))[0])

    with_world(work)


@tasks.command()
def get(id: Id) -> None:
    """One task whole, with the log of its runs."""

    async def work(w: World) -> None:
        _print({**_shown(await w.queue.get(id)), "log": await w.queue.log(id)})

    with_world(work)


@tasks.command()
def wait(id: Id, timeout_s: Annotated[float, typer.Option(min=0)] = 3600.0) -> None:
    """Wait until it has ended, and print its result. Exit status 1 when it did not succeed."""

    async def work(w: World) -> None:
        task = await w.queue.wait(id, timeout_s)
        if task.state not in ENDED:
            raise TaskFailed(f"task {id} is {task.state.value} after {timeout_s:g} s; it goes on: lemo task wait {id}")
        if task.state is not State.SUCCESS:
            raise TaskFailed(f"task {id} ended as {task.state.value}: {task.error}. Its log: lemo task get {id}")
        _print(task.result)

    with_world(work)


@tasks.command("list")
def list_tasks(
    state: Annotated[str | None, typer.Option(help="PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED")] = None,
    group: Annotated[str | None, typer.Option()] = None,
    tenant: Tenant = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Tasks, the newest first."""
    if state is not None and state not in State.__members__:
        raise InvalidField("state", state, ", ".join(State.__members__))
    states = list(State) if state is None else [State(state)]
    with_world(lambda w: _listed(w.queue.find(states, tenant, limit, group), json))


@tasks.command()
def cancel(id: Id) -> None:
    """End it, also while it runs, with the tasks that it submitted."""

    async def work(w: World) -> None:
        print(f"{id} is {(await w.queue.cancel(id)).value}")

    with_world(work)


@tasks.command()
def dead(tenant: Tenant = None, limit: Limit = 50, json: Json = False) -> None:
    """Tasks that failed for good."""
    with_world(lambda w: _listed(w.queue.dead(limit, tenant), json))


@tasks.command()
def replay(ids: Ids = None, every: Every = False) -> None:
    """Dead tasks begin again, with all their tries."""

    async def work(w: World) -> None:
        print(f"{len(await w.queue.replay(*await _chosen(w, ids, every)))} tasks begin again")

    with_world(work)


@tasks.command()
def drop(ids: Ids = None, every: Every = False) -> None:
    """Forget dead tasks."""

    async def work(w: World) -> None:
        print(f"{len(await w.queue.drop(*await _chosen(w, ids, every)))} tasks are forgotten")

    with_world(work)


@tasks.command()
def ping() -> None:
    """Workers that are there. Exit status 1 where none is."""

    async def work(look: Inspection) -> None:
        online = [w for w in await look.workers() if w.online]
        for w in online:
            print(f"{w.id} of pool {w.pool}: {len(w.slots)} slots, {w.running} of them at work, {w.done:,} tasks done")
        if not online:
            raise NotFound("no worker was seen in the last seconds. Is Lemo up? Start it: lemo up")

    _look(work)


@tasks.command()
def active(json: Json = False) -> None:
    """Tasks that a slot has now."""
    _look(lambda look: _listed(look.active(), json))


@tasks.command()
def scheduled(json: Json = False) -> None:
    """Tasks that wait for their time: an ETA, a retry, the next look at a Ray Job."""

    async def work(look: Inspection) -> None:
        found = await look.scheduled()
        _table(
            json,
            ("due", "id", "name", "tenant", "state"),
            [(_at(due), t.id, t.name, t.tenant, t.state.value) for t, due in found],
            [{**_shown(t), "due": due} for t, due in found],
        )

    _look(work)


@tasks.command()
def registered(json: Json = False) -> None:
    """Every handler: its queue, and the names that it had in the old systems."""

    async def work(w: World) -> None:
        found = sorted(w.queue.names.handlers, key=lambda h: h.name)
        rows = [(h.name, h.queue, ", ".join(h.aliases)) for h in found]
        plain = [{"name": h.name, "queue": h.queue, "aliases": h.aliases, "positional": h.positional} for h in found]
        _table(json, ("name", "queue", "old names"), rows, plain)

    with_world(work)


@tasks.command()
def stats() -> None:
    """How many tasks there are, and per handler how many attempts ended how, and their seconds."""

    async def work(look: Inspection) -> None:
        _print(await look.stats())

    _look(work)


@tasks.command()
def queues(json: Json = False) -> None:
    """Each queue: how many wait, and for how long the oldest has."""

    async def work(look: Inspection) -> None:
        found = await look.queues()
        rows = [(x.queue, f"{x.length:,}", f"{x.oldest_s:.1f}") for x in found]
        _table(json, ("queue", "waiting", "oldest (s)"), rows, [asdict(x) for x in found])

    _look(work)


@tasks.command()
def pools(json: Json = False) -> None:
    """Each pool: its queues, slots and workers."""

    async def work(look: Inspection) -> None:
        _pools(await look.pools(), json)

    _look(work)


@tasks.command()
def pool(
    name: Annotated[str, typer.Argument(help="as `lemo task pools` shows it")],
    slots: Annotated[int | None, typer.Option(help="of each replica; 0: as the settings have it", min=0)] = None,
    paused: Annotated[bool | None, typer.Option("--pause/--resume")] = None,
    queues: Annotated[str | None, typer.Option(help="queue:weight+queue:weight; settings: those of them")] = None,
    replicas: Annotated[int | None, typer.Option(help="0: as the backlog asks", min=0)] = None,
    restart: Annotated[bool, typer.Option("--restart", help="new processes, each after its task")] = False,
) -> None:
    """Show one pool, or change it while it runs."""
    asked = {"slots": slots, "paused": paused, "queues": queues, "replicas": replicas, "restart": restart or None}
    wanted: dict[str, Any] = {k: v for k, v in asked.items() if v is not None}
    if slots == 0:
        wanted["slots"] = None
    if queues == "settings":
        wanted["queues"] = None

    async def work(look: Inspection) -> None:
        _pools([await look.steer(name, wanted)], False)

    _look(work)


def _pools(found: Iterable[Stand], json: bool) -> None:
    shown = list(found)
    rows = [
        (
            p.pool, ", ".join(f"{q}:{w}" for q, w in p.queues.items()), str(p.slots), str(p.replicas or "by backlog"),
            str(p.workers), str(p.running), f"{p.waiting:,}", "paused" if p.paused else "runs",
        )
        for p in shown
    ]  # fmt: skip
    names = ("pool", "queues", "slots", "replicas wanted", "workers", "at work", "waiting", "state")
    _table(json, names, rows, [asdict(p) for p in shown])


async def _listed(found: Awaitable[list[Task]], json: bool) -> None:
    listed = await found
    rows = [
        (t.id, t.name, t.tenant, t.queue, t.state.value, str(t.attempt), _at(t.submitted_at), t.error[:MOST_SHOWN])
        for t in listed
    ]
    names = ("id", "name", "tenant", "queue", "state", "attempts", "submitted", "error")
    _table(json, names, rows, [_shown(t) for t in listed])


def _table(json: bool, names: Iterable[str], rows: Iterable[Iterable[str]], plain: Iterable[Any]) -> None:
    if json:
        for one in plain:
            print(orjson.dumps(one).decode())
        return
    table = folding(*names)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def folding(*names: str) -> Table:
    """A table whose first column is whole, whatever the width: it holds what other commands are given."""
    table = Table()
    for place, name in enumerate(names):
        table.add_column(name, overflow="fold", no_wrap=place == 0)
    return table


async def _chosen(w: World, ids: list[str] | None, every: bool) -> list[str]:
    if bool(ids) == every:
        raise InvalidField("ids", ids, "ids of dead tasks, or --all")
    return ids or [t.id for t in await w.queue.dead(1_000_000)]


def _object(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        raise InvalidField("argument", text, f"JSON: {e}") from None
    if not isinstance(found, dict):
        raise InvalidField("argument", text, "a JSON object")
    return found


def _shown(task: Task) -> dict[str, Any]:
    from ray_app.tasks.inspection import shown

    return shown(task)


def _print(value: Any) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "seconds")
