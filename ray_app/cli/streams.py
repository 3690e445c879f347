"""`lemo stream` and `lemo dlq`: what operators do with the flows and with what these could not read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from ray_app.cli.progress import console
from ray_app.cli.world import with_world
from ray_app.errors import InvalidField

if TYPE_CHECKING:
    from ray_app.operations.pool import Pool
    from ray_app.streams.letters import Letter, Letters

streams = typer.Typer(no_args_is_help=True, help="The flows that read the event log.")
dlq = typer.Typer(no_args_is_help=True, help="Dead letters: what a flow could not read.")
Flow = Annotated[str, typer.Argument(help="items, behaviors, slates, hot, metrics, profile, neural, tasks")]
Topic = Annotated[str | None, typer.Option(help="of one topic; every topic that has letters unless set")]
Json = Annotated[bool, typer.Option("--json", help="one JSON value a line")]
MOST_SHOWN = 80  # characters of a reason in the table


def _run(work: Callable[[Pool, Letters], Awaitable[None]]) -> None:
    from ray_app import wiring

    with_world(lambda world: work(wiring.pool(world), wiring.letters(world)))


@streams.command("list")
def list_flows(json: Json = False) -> None:
    """Each flow: what it reads, whether it pauses, how far it is behind."""

    async def work(pool: Pool, _: Letters) -> None:
        found = await pool.list()
        if json:
            print("\n".join(orjson.dumps(f).decode() for f in found))
            return
        table = Table("flow", "topics", "members", "behind", "state")
        for f in found:
            state = ("paused" if f.paused else "runs") + (f", rebuilt {f.generation}x" if f.generation else "")
            table.add_row(f.flow, ", ".join(f.topics), str(f.members), f"{f.lag:,}", state)
        console.print(table)

    _run(work)


@streams.command()
def lag(flow: Annotated[str | None, typer.Argument(help="every flow unless set")] = None, json: Json = False) -> None:
    """Each partition: position, end, entries behind, and which member holds it."""

    async def work(pool: Pool, _: Letters) -> None:
        names = [flow] if flow else [f.flow for f in await pool.list()]
        lines = [line for name in names for line in await pool.lags(name)]
        if json:
            print("\n".join(orjson.dumps({**asdict(line), "lag": line.lag}).decode() for line in lines))
            return
        table = Table("flow", "topic", "partition", "position", "end", "behind", "member")
        for x in lines:
            table.add_row(x.flow, x.topic, *(f"{n:,}" for n in (x.partition, x.position, x.end, x.lag)), x.member[:8])
        console.print(table)

    _run(work)


@streams.command()
def pause(flow: Flow) -> None:
    """Every replica stops the flow within seconds; its entries wait in the log."""
    _run(lambda pool, _: pool.control.pause(pool.check(flow)))


@streams.command()
def resume(flow: Flow) -> None:
    """It goes on where it stood."""
    _run(lambda pool, _: pool.control.resume(pool.check(flow)))


@streams.command()
def scale(replicas: Annotated[int, typer.Argument(help="0: as the lag asks", min=0, max=1000)]) -> None:
    """How many replicas the pool has, within the bounds of its autoscaling_config."""
    _run(lambda pool, _: pool.control.scale(replicas))


@streams.command()
def rewind(flow: Flow) -> None:
    """Read the log again from its first entry: state in Redis is rebuilt beside the live one, then swapped in; sinks
    are written again, which changes nothing that was right."""

    async def work(pool: Pool, _: Letters) -> None:
        async for progress in pool.rewind(flow):
            console.print(f"{progress.read:,} entries read again, {progress.behind:,} ahead")
        console.print(f"flow {flow} was rewound")

    _run(work)


@dlq.command("list")
def list_letters(
    topic: Topic = None, every: Annotated[bool, typer.Option("--all")] = False, json: Json = False
) -> None:
    """Waiting letters; with --all also those that were replayed or dropped."""

    async def work(_: Pool, letters: Letters) -> None:
        table = Table("topic", "id", "flow", "state", "why", "bytes")
        for name in [topic] if topic else await letters.topics():
            async for x in letters.read(name, every):
                if json:
                    print(orjson.dumps({**asdict(x), "body": _text(x)}).decode())
                table.add_row(name, x.id, x.flow, x.state, x.why[:MOST_SHOWN], str(len(x.body)))
        if not json:
            console.print(table)

    _run(work)


@dlq.command()
def show(topic: str, id: str) -> None:
    """One letter whole."""

    async def work(_: Pool, letters: Letters) -> None:
        x = await letters.get(topic, id)
        print(orjson.dumps({**asdict(x), "body": _text(x)}, option=orjson.OPT_INDENT_2).decode())

    _run(work)


@dlq.command()
def replay(
    topic: str,
    ids: Annotated[list[str] | None, typer.Argument()] = None,
    every: Annotated[bool, typer.Option("--all")] = False,
) -> None:
    """Send letters to their topic again, for the flows that could not read them. A second replay sends nothing."""
    wanted = _chosen(ids, every)

    async def work(_: Pool, letters: Letters) -> None:
        print(f"{len(await letters.replay(topic, wanted))} entries were sent again to {topic}")

    _run(work)


@dlq.command()
def drop(
    topic: str,
    ids: Annotated[list[str] | None, typer.Argument()] = None,
    every: Annotated[bool, typer.Option("--all")] = False,
) -> None:
    """Let letters go; they are listed with --all only."""
    wanted = _chosen(ids, every)

    async def work(_: Pool, letters: Letters) -> None:
        print(f"{await letters.drop(topic, wanted)} letters of {topic} were dropped")

    _run(work)


def _chosen(ids: list[str] | None, every: bool) -> Callable[[Letter], bool]:
    if bool(ids) == every:
        raise InvalidField("ids", ids, "ids of letters, or --all")
    return lambda letter: every or letter.id in (ids or ())


def _text(x: Letter) -> str:
    return x.body.decode(errors="backslashreplace")
