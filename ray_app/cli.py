"""The command `lemo`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ray_app import config, launch
from ray_app.errors import LemoError, NotFound, Unavailable
from ray_app.operations.load import Shop

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
imports = typer.Typer(no_args_is_help=True, help="Read files into the event log.")
jobs = typer.Typer(no_args_is_help=True, help="Run jobs on the cluster.")
app.add_typer(imports, name="import")
app.add_typer(jobs, name="job")
EXAMPLE = launch.ROOT / "examples" / "retail" / "map.toml"
console = Console()
Tenant = Annotated[str, typer.Option(help="whose data")]


@app.command()
def up(
    data: Annotated[Path | None, typer.Option(help="file of behaviours to load when the store is empty")] = None,
    map: Annotated[Path, typer.Option(help="how its columns are mapped")] = EXAMPLE,
    http_port: Annotated[int | None, typer.Option(help="10071 unless set")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="10072 unless set")] = None,
    load: Annotated[bool, typer.Option(help="load data into an empty store")] = True,
) -> None:
    """Start everything here and stay in the foreground; Ctrl-C ends it all."""
    settings = config.load()
    settings.data.mkdir(parents=True, exist_ok=True)
    house = launch.House(settings.data, http_port, grpc_port)
    console.print(f"starting; the log is {house.log}", highlight=False)
    status = launch.run(house, lambda: _ready(house, Shop("demo", map, data), load))
    raise typer.Exit(status)


def _ready(house: launch.House, shop: Shop, load: bool) -> None:
    from ray_app.operations.show import show, wait_live
    from ray_app.wiring import open_world

    settings = config.load()
    key = _demo_key(settings.data)

    async def work() -> None:
        async with open_world(settings) as world:
            if load:
                await _load(world, shop)
            await wait_live(world, shop.tenant, house.url, key)
            await show(world, shop.tenant, house.url, house.grpc_port, key)

    asyncio.run(work())
    console.print(f"ready: HTTP {house.url} (docs at /api/v1/docs), gRPC 127.0.0.1:{house.grpc_port}. Ctrl-C ends it.")


async def _load(world: Any, shop: Shop) -> None:
    from ray_app.operations import load as loading

    if await loading.is_wanted(world, shop):
        with _bars() as bars:
            await loading.load(world, shop, bars.console.print, lambda name: _bar(bars, name))
    jobs = await loading.jobs_left(world, shop.tenant)
    if jobs:
        await asyncio.to_thread(
            loading.learn, jobs, shop.tenant, _follow_job, lambda line: console.print(line, highlight=False)
        )


def _follow_job(name: str, args: Sequence[str]) -> Iterator[str]:
    from ray_app import cluster

    client = cluster.job_client(config.load().data)
    return cluster.follow_job(client, cluster.submit_job(client, name, args))


@app.command()
def down() -> None:
    """End the system that was started on this data folder."""
    data = config.load().data
    found = [p for p in psutil.process_iter() if _is_up(p, data)]
    for p in found:
        p.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(found, timeout=20)
    print(f"ended {len(found)} of the starts on {data}" if found else f"nothing runs on {data}")
    raise typer.Exit(1 if left else 0)


def _is_up(p: psutil.Process, data: Path) -> bool:
    """A `lemo up` of this folder; its children carry other command lines."""
    try:
        words = p.cmdline()
        folder = config.load({k: v for k, v in p.environ().items() if k == "LEMO_DATA"}).data
        named = p.environ().get("LEMO_DATA") is not None
        return "up" in words and any(w.endswith("lemo") for w in words) and (folder if named else _cwd(p)) == data
    except (psutil.Error, OSError):
        return False


def _cwd(p: psutil.Process) -> Path:
    return Path(p.cwd()) / ".lemo"


@app.command()
def key() -> None:
    """Print the API key of tenant demo."""
    print(_demo_key(config.load().data))


def _demo_key(data: Path) -> str:
    file = data / "demo.key"
    if not file.exists():
        raise NotFound(f"{file} does not exist; the first start makes it. Start: lemo up")
    return file.read_text().strip()


def _import(kind: str, file: Path, map: Path | None, tenant: str, history: bool, rejects: Path | None) -> None:
    from ray_app.operations.mapping import load_map
    from ray_app.operations.move import Import
    from ray_app.wiring import open_world

    refused = rejects or Path(f"{file.name}.rejects.jsonl")

    async def work() -> None:
        async with open_world(config.load()) as world:
            job = Import(world, tenant, file, load_map(map, kind), refused, history)
            with _bars() as bars:
                progress = await job.run(_bar(bars, f"{kind} from {file.name}"))
            print(f"{progress.rows - progress.rejected:,} of {progress.rows:,} rows are in the log")
            if progress.rejected:
                print(f"{progress.rejected:,} rows were refused: see {refused}")

    asyncio.run(work())


File = Annotated[Path, typer.Argument(help=".csv, .jsonl (each also .gz) or .parquet")]
MapFile = Annotated[Path | None, typer.Option("--map", help="TOML; without it the columns have our names")]
Rejects = Annotated[Path | None, typer.Option(help="where refused rows go; FILE.rejects.jsonl unless set")]


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


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="user id")],
    scenario: str = "home",
    n: int = 5,
    context_item: Annotated[str | None, typer.Option(help="item looked at")] = None,
    url: Annotated[str, typer.Option(help="of the HTTP door")] = "http://127.0.0.1:10071",
    grpc: Annotated[str | None, typer.Option(help="host:port: ask the gRPC door instead")] = None,
    debug: bool = False,
) -> None:
    """Ask the running system."""
    body = {"scenario": scenario, "user_id": user, "n": n, "context_item_id": context_item, "debug": debug}
    asked = {k: v for k, v in body.items() if v is not None and v is not False}
    answer = _over_grpc(grpc, asked) if grpc else _over_http(url, asked)
    print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _over_http(url: str, asked: dict[str, Any]) -> Any:
    headers = {"X-API-Key": _demo_key(config.load().data)}
    try:
        return httpx.post(f"{url}/api/v1/recommend", json=asked, headers=headers, timeout=10).json()
    except httpx.HTTPError as e:
        raise Unavailable(f"{url} does not answer: {e}. Is Lemo up? Start it: lemo up") from None


def _over_grpc(address: str, asked: dict[str, Any]) -> Any:
    import grpc
    from google.protobuf.json_format import MessageToDict, ParseDict

    from ray_app.serving.grpc.lemo.v1 import recommendation_pb2, recommendation_pb2_grpc

    message = ParseDict(asked, recommendation_pb2.RecommendRequest())
    metadata = (("x-api-key", _demo_key(config.load().data)),)
    try:
        with grpc.insecure_channel(address) as channel:
            found = recommendation_pb2_grpc.RecommendationStub(channel).Recommend(
                message, metadata=metadata, timeout=10
            )
    except grpc.RpcError as e:
        raise Unavailable(f"{address} refused: {e.details()}") from None
    return MessageToDict(found, preserving_proto_field_name=True)


@jobs.command("run")
def job_run(name: Annotated[str, typer.Argument(help="similarity, embed, train")], tenant: Tenant = "demo") -> None:
    """Run jobs/NAME.py on the cluster and follow its log."""
    if not (launch.ROOT / "jobs" / f"{name}.py").exists():
        known = ", ".join(sorted(p.stem for p in (launch.ROOT / "jobs").glob("*.py")))
        raise NotFound(f"job {name!r} is unknown. Known: {known}")
    for line in _follow_job(name, ["--tenant", tenant]):
        print(line, flush=True)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _bar(bars: Progress, name: str) -> Callable[[int, int, int], None]:
    task = bars.add_task(name, total=None)

    def told(rows: int, rejected: int, total: int) -> None:
        bars.update(
            task, completed=rows, total=total, description=f"{name}, {rejected:,} refused" if rejected else name
        )

    return told


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # a local cluster has one; Ray reads this when it is imported
    try:
        app()
    except LemoError as e:
        print(f"lemo: {e.message}", file=sys.stderr)
        sys.exit(1)
