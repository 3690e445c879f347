"""`lemo dataset`: define what a model learns from, build it, look at it, take it away as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table

from ray_app.cli.progress import console
from ray_app.cli.world import with_world
from ray_app.errors import InvalidField, NotFound

if TYPE_CHECKING:
    from ray_app.wiring.stores import World

datasets = typer.Typer(no_args_is_help=True, help="What models learn from: definitions and builds.")
Tenant = Annotated[str, typer.Option(help="whose data")]
Name = Annotated[str, typer.Argument(help="as it was defined")]


def _shown(found: Any) -> None:
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


@datasets.command("list")
def list_datasets(tenant: Tenant = "demo") -> None:
    """Each dataset: where from, which window, its newest build."""

    async def work(w: World) -> None:
        from ray_app.catalog.dataset import Datasets
        from ray_app.training.builds import last

        table = Table("dataset", "version", "source", "days", "later days", "built", "rows")
        for d in await Datasets(w.documents, w.clock, tenant).list():
            page = last(w.blobs, tenant, d.name)
            built = (page["id"], f"{page['rows']:,}") if page else ("", "")
            table.add_row(d.name, str(d.version), d.source, str(d.days), str(d.later_days), *built)
        console.print(table)

    with_world(work)


@datasets.command()
def define(
    name: Name,
    source: Annotated[str, typer.Option(help="behaviors, slates, documents:<kind>, parquet:<file>")] = "behaviors",
    days: Annotated[int, typer.Option(help="of the window, which ends at the build")] = 90,
    later_days: Annotated[int, typer.Option(help="of these, the last, which judge the models")] = 14,
    filters: Annotated[str, typer.Option(help='JSON: [{"field", "op", "value"}]')] = "[]",
    tenant: Tenant = "demo",
) -> None:
    """Make a definition, or its next version."""

    async def work(w: World) -> None:
        from ray_app.catalog.dataset import Datasets, parse

        try:
            wanted = orjson.loads(filters)
        except ValueError as e:
            raise InvalidField("filters", filters, f"JSON: {e}") from None
        raw = {"name": name, "source": source, "days": days, "later_days": later_days, "filters": wanted}
        _shown((await Datasets(w.documents, w.clock, tenant).put(parse(raw))).public())

    with_world(work)


@datasets.command()
def build(name: Name, tenant: Tenant = "demo") -> None:
    """Read its window into Parquet in this process; on the cluster by Ray Data: lemo job run dataset --name NAME."""

    async def work(w: World) -> None:
        from ray_app.catalog.dataset import Datasets
        from ray_app.training.build import build

        await build(w, tenant, await Datasets(w.documents, w.clock, tenant).get(name), console.print)

    with_world(work)


@datasets.command()
def inspect(name: Name, tenant: Tenant = "demo") -> None:
    """The newest build: rows, label rate, schema, and drift against the build before."""

    async def work(w: World) -> None:
        from ray_app.training.builds import last

        page = last(w.blobs, tenant, name)
        if page is None:
            raise NotFound(f"dataset {name!r} was not built yet. Build it: lemo dataset build {name}", value=name)
        _shown(page)

    with_world(work)


@datasets.command()
def export(name: Name, into: Annotated[Path, typer.Argument(help="a new .parquet")], tenant: Tenant = "demo") -> None:
    """The newest build as one Parquet file."""

    async def work(w: World) -> None:
        from ray_app.training.builds import export

        print(f"{export(w.blobs, tenant, name, into):,} rows are in {into}")

    with_world(work)
