"""The command `lemo`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from ray_app import config, launch
from ray_app.catalog.tenant import DEMO, SYSTEM, parse_tenant
from ray_app.cli.check import check
from ray_app.cli.datasets import datasets
from ray_app.cli.doors import demo_key, over_grpc, over_http
from ray_app.cli.jobs import jobs
from ray_app.cli.models import models
from ray_app.cli.progress import bar, bars
from ray_app.cli.schedules import schedules
from ray_app.cli.sources import sources
from ray_app.cli.streams import dlq, streams
from ray_app.cli.tasks import tasks
from ray_app.cli.up import end_all, start_all
from ray_app.cli.world import with_world
from ray_app.errors import InvalidSettings, LemoError
from ray_app.operations.load import Shop

if TYPE_CHECKING:
    from ray_app.operations.move import Progress
    from ray_app.wiring.stores import World

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
imports = typer.Typer(no_args_is_help=True, help="Read files into the event log.")
app.add_typer(imports, name="import")
app.add_typer(jobs, name="job")
app.add_typer(streams, name="stream")
app.add_typer(dlq, name="dlq")
app.add_typer(models, name="model")
app.add_typer(datasets, name="dataset")
app.add_typer(sources, name="source")
app.add_typer(schedules, name="schedule")
app.add_typer(tasks, name="task")
app.command()(check)
EXAMPLE = launch.ROOT / "examples" / "retail" / "map.toml"
Tenant = Annotated[str, typer.Option(help="whose data")]
File = Annotated[Path, typer.Argument(help=".csv, .jsonl (each also .gz) or .parquet")]
MapFile = Annotated[Path | None, typer.Option("--map", help="TOML; without it the columns have our names")]
Rejects = Annotated[Path | None, typer.Option(help="where refused rows go; FILE.rejects.jsonl unless set")]


@app.command()
def up(
    data: Annotated[Path | None, typer.Option(help="file of behaviours to load when the store is empty")] = None,
    map: Annotated[Path | None, typer.Option(help="how its columns are mapped; DATA needs one")] = None,
    http_port: Annotated[int | None, typer.Option(help="10071 unless set")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="10072 unless set")] = None,
    load: Annotated[bool, typer.Option(help="load data into an empty store")] = True,
) -> None:
    """Start everything here and stay in the foreground; Ctrl-C ends it all."""
    if data is not None and map is None:
        raise InvalidSettings(f"{data} needs a map that says what its columns are: make up DATA={data} MAP=my.toml")
    raise typer.Exit(start_all(Shop("demo", map or EXAMPLE, data) if load else None, http_port, grpc_port))


@app.command()
def down() -> None:
    """End the system that was started on this data folder."""
    raise typer.Exit(end_all(config.load().data))


@app.command()
def key(
    tenant: Annotated[str, typer.Option(help="another than demo gets a new key, shown this once")] = DEMO,
    operator: Annotated[bool, typer.Option("--operator", help="a new key for streams and dead letters")] = False,
) -> None:
    """Print the API key of tenant demo, or a new one for another tenant or for an operator."""
    if tenant == DEMO and not operator:
        print(demo_key(config.load().data))
        return
    from ray_app.access.keys import Keys

    wanted = SYSTEM if operator else parse_tenant(tenant)
    print(with_world(lambda world: Keys(world.documents, world.clock).create(wanted)))


@imports.command("items")
def import_items(file: File, map: MapFile = None, tenant: Tenant = "demo", rejects: Rejects = None) -> None:
    """Items; started again after a cut it goes on where it was."""
    _import("items", file, map, tenant, False, rejects)


@imports.command("behaviors")
def import_behaviors(
    file: File,
    map: MapFile = None,
    tenant: Tenant = "demo",
    history: Annotated[bool, typer.Option("--history", help="take events of any age")] = False,
    rejects: Rejects = None,
) -> None:
    """Behaviours; started again after a cut it goes on where it was."""
    _import("behaviors", file, map, tenant, history, rejects)


def _import(kind: str, file: Path, map: Path | None, tenant: str, history: bool, rejects: Path | None) -> None:
    from ray_app.operations.mapping import load_map
    from ray_app.operations.move import Import

    refused = rejects or Path(f"{file.name}.rejects.jsonl")

    async def work(world: World) -> Progress:
        job = Import(world, parse_tenant(tenant), file, load_map(map, kind), refused, history)
        with bars() as shown:
            return await job.run(bar(shown, f"{kind} from {file.name}"))

    progress = with_world(work)
    print(f"{progress.rows - progress.rejected:,} of {progress.rows:,} rows are in the log")
    if progress.rejected:
        print(f"{progress.rejected:,} rows were refused: see {refused}")


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="user id")],
    scenario: str = "home",
    n: int = 5,
    context_item: Annotated[str | None, typer.Option(help="item looked at")] = None,
    url: Annotated[str, typer.Option(help="of the HTTP door")] = "http://127.0.0.1:10071",
    grpc: Annotated[str | None, typer.Option(help="host:port: ask the gRPC door instead")] = None,
) -> None:
    """Ask the running system."""
    body = {"scenario": scenario, "user_id": user, "n": n, "context_item_id": context_item}
    asked = {k: v for k, v in body.items() if v is not None}
    key = demo_key(config.load().data)
    answer = over_grpc(grpc, key, asked) if grpc else over_http(url, key, asked)
    print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # a local cluster has one; Ray reads this when it is imported
    try:
        app()
    except LemoError as e:
        print(f"lemo: {e.message}", file=sys.stderr)
        sys.exit(1)
