"""`lemo schedule`: what runs when, what ran, and what did not."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ray_app.cli.progress import console
from ray_app.cli.tasks import folding
from ray_app.cli.world import with_world
from ray_app.errors import InvalidField, InvalidSettings

if TYPE_CHECKING:
    from ray_app.tasks.schedule import Schedule
    from ray_app.tasks.schedules import Schedules
    from ray_app.wiring.stores import World

schedules = typer.Typer(no_args_is_help=True, help="Schedules: what runs when, and what ran.")
Id = Annotated[str, typer.Argument(help="as `lemo schedule list` shows it")]
Json = Annotated[bool, typer.Option("--json", help="one JSON value a line")]
Fields = Annotated[list[str], typer.Argument(help="name=value; a value that is JSON is taken as JSON")]


def _run(work: Callable[[World, Schedules], Awaitable[None]]) -> None:
    from ray_app.wiring.schedules import schedules_of

    with_world(lambda world: work(world, schedules_of(world)))


@schedules.command("list")
def list_schedules(json: Json = False) -> None:
    """Each schedule: when it is due, what it runs, and whether it pauses."""
    from ray_app.operations.schedules import shown

    async def work(_: World, known: Schedules) -> None:
        found = [shown(s) for s in await known.page(100_000)]
        if json:
            print("\n".join(orjson.dumps(s).decode() for s in found))
            return
        table = folding("schedule", "when", "zone", "handler", "next (UTC)", "state")
        for s in found:
            when = s.get("cron") or f"every {s['every_s']} s"
            state = f"paused: {s['why']}" if s["paused"] else "runs"
            table.add_row(s["id"], when, s["zone"], s["handler"], (s["next"] or "never").removesuffix("Z"), state)
        console.print(table)

    _run(work)


@schedules.command()
def show(id: Id, lines: Annotated[int, typer.Option(min=1, help="of the ledger")] = 20) -> None:
    """One schedule whole: its next runs, and what became of the last due times."""
    from ray_app.operations.schedules import whole

    async def work(world: World, known: Schedules) -> None:
        _print(await whole(known, world.queue, id, lines))

    _run(work)


@schedules.command()
def put(id: Id, fields: Fields) -> None:
    """Write a schedule: handler=NAME cron="0 3 * * *" zone=Europe/London, or every_s=300; docs/schedules.md has all."""
    from ray_app.operations.schedules import check, shown

    made = _parsed({"id": id, **_values(fields)})

    async def work(world: World, known: Schedules) -> None:
        _print(shown(await known.put(check(made, world.queue.names))))

    _run(work)


@schedules.command()
def delete(id: Id) -> None:
    """With its history."""
    _run(lambda _, known: known.delete(id))


@schedules.command()
def pause(id: Id, note: Annotated[str, typer.Option(help="why")] = "") -> None:
    """Its due times are written down, and do not run."""
    from ray_app.tasks import operate

    _run(lambda _, known: _told(operate.pause(known, id, note), f"{id} is paused"))


@schedules.command()
def resume(id: Id) -> None:
    """From now on."""
    from ray_app.tasks import operate

    _run(lambda _, known: _told(operate.resume(known, id), f"{id} runs"))


@schedules.command()
def trigger(id: Id) -> None:
    """Run it once now; prints the id of the task."""
    from ray_app.tasks import operate

    async def work(_: World, known: Schedules) -> None:
        print(await operate.trigger(known, id))

    _run(work)


@schedules.command()
def backfill(
    id: Id,
    since: Annotated[str, typer.Argument(help="ISO 8601; UTC unless it has a zone")],
    until: Annotated[str, typer.Argument(help="ISO 8601, not after now")],
    at_once: Annotated[bool, typer.Option("--at-once", help="not one after another")] = False,
) -> None:
    """Run what was due in a span and did not run; prints the ids of the tasks."""
    from ray_app.events.schema import parse_time
    from ray_app.tasks import operate

    span = parse_time("since", since), parse_time("until", until)

    async def work(_: World, known: Schedules) -> None:
        found = await operate.backfill(known, id, *span, operate.ORDERS[at_once])
        print("\n".join([*found.ids, f"{len(found.ids)} start, {found.ran} had run already"]))

    _run(work)


@schedules.command()
def preview(fields: Fields, n: Annotated[int, typer.Option("-n", min=1, max=1000)] = 10) -> None:
    """The next due times of a schedule that is not written: cron="30 2 * * *" zone=America/New_York."""
    from ray_app.clock import SystemClock
    from ray_app.operations.schedules import upcoming

    made = _parsed({"id": "preview", "handler": "none", **_values(fields)})
    for one in upcoming(made, SystemClock().now(), n):
        print(one["at"], one["local"], one["why"])


@schedules.command("import")
def import_schedules(
    file: Annotated[Path | None, typer.Argument(help=".toml or .json")] = None,
    redbeat: Annotated[str | None, typer.Option(help="URL of a Redis with RedBeat entries")] = None,
    prefix: Annotated[str, typer.Option(help="of the RedBeat keys")] = "redbeat:",
    zone: Annotated[str, typer.Option(help="`timezone` of the Celery app")] = "UTC",
    replace: Annotated[bool, typer.Option("--replace", help="also those that exist")] = False,
) -> None:
    """Write every schedule of a file, or of RedBeat; what exists stays unless --replace."""
    if (file is None) == (redbeat is None):
        raise InvalidSettings("lemo schedule import takes a FILE or --redbeat URL, and not both", key="redbeat")

    async def work(world: World, known: Schedules) -> None:
        found = _of_file(world, file) if file else await _of_redbeat(world, redbeat or "", prefix, zone)
        existing = set() if replace else set(await known.find([s.id for s in found]))
        for one in found:
            if one.id not in existing:
                await known.put(one)
            print(f"{one.id}: {'it exists; --replace writes it' if one.id in existing else 'written'}")

    _run(work)


def _of_file(world: World, file: Path) -> list[Schedule]:
    """Nothing is written where one of them is refused."""
    from ray_app.operations.schedules import check, definitions

    try:
        text = file.read_text()
        raw = tomllib.loads(text) if file.suffix == ".toml" else orjson.loads(text)
    except (OSError, ValueError) as e:
        raise InvalidSettings(f"{file} cannot be read: {e}", key=str(file)) from None
    return [check(one, world.queue.names) for one in definitions(raw)]


async def _of_redbeat(world: World, url: str, prefix: str, zone: str) -> list[Schedule]:
    from ray_app.operations.redbeat import read
    from ray_app.stores.redis import connect

    old = connect(url)
    try:
        found = await read(old, prefix, zone, world.queue.names)
    finally:
        await old.aclose()
    for one in found:
        if one.schedule is None:
            print(f"{one.name}: skipped: {one.why}")
        elif one.left:
            print(f"{one.name}: not taken over: {one.left}")
    return [one.schedule for one in found if one.schedule]


def _parsed(raw: dict[str, Any]) -> Schedule:
    from ray_app.tasks.schedule import parse

    return parse(raw)


def _values(fields: list[str]) -> dict[str, Any]:
    pairs = [f.partition("=") for f in fields]
    for name, sign, _ in pairs:
        if not sign:
            raise InvalidField("field", name, "name=value")
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


async def _told(done: Awaitable[Any], what: str) -> None:
    await done
    print(what)


def _print(value: Any) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
