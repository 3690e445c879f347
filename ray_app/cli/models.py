"""`lemo model`: versions of trained models, which one serves, and the way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from ray_app.cli.progress import console
from ray_app.cli.world import with_world

if TYPE_CHECKING:
    from ray_app.operations.models import Models
    from ray_app.registry.version import Version

models = typer.Typer(no_args_is_help=True, help="Versions of trained models.")
Tenant = Annotated[str, typer.Option(help="whose models")]
Json = Annotated[bool, typer.Option("--json", help="one JSON value a line")]
Name = Annotated[str, typer.Argument(help="embedder, item_cf, ranker ...")]
Id = Annotated[str, typer.Argument(help="as `lemo model list` shows it")]


def _run(work: Callable[[Models], Awaitable[None]]) -> None:
    from ray_app import wiring

    with_world(lambda world: work(wiring.models(world)))


@models.command("list")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="every model unless set")] = None,
    tenant: Tenant = "demo",
    json: Json = False,
) -> None:
    """Versions, the newest first: when each was made, its status and figures."""

    async def work(m: Models) -> None:
        from ray_app.operations.models import public

        found = await m.versions(tenant, name)
        if json:
            print("\n".join(orjson.dumps(public(v)).decode() for v in found))
            return
        table = Table("model", "version", "made", "status", "figures")
        for v in found:
            made = datetime.fromtimestamp(v.made_at / 1000, UTC).isoformat(" ", "minutes")
            figures = ", ".join(f"{k} {x:.4f}" for k, x in v.metrics.items())
            table.add_row(v.name, v.id, made, v.status.value, figures)
        console.print(table)

    _run(work)


@models.command()
def show(name: Name, id: Id, tenant: Tenant = "demo") -> None:
    """One version whole: figures, lineage, files, and whether these are what was registered."""

    async def work(m: Models) -> None:
        print(orjson.dumps(await m.show(tenant, name, id), option=orjson.OPT_INDENT_2).decode())

    _run(work)


@models.command()
def promote(name: Name, id: Id, tenant: Tenant = "demo") -> None:
    """Make it the live one; replicas load it beside the old one and swap within seconds."""
    _run(lambda m: _told(m.move(tenant, name, id, "live")))


@models.command()
def shadow(
    name: Name,
    id: Annotated[str | None, typer.Argument(help="none: compare the last days' shadows with what was live")] = None,
    tenant: Tenant = "demo",
    days: Annotated[int, typer.Option(min=1, max=400)] = 1,
) -> None:
    """Log what a ranker would have said beside the live one; without a version: how they compare."""

    async def compare(m: Models) -> None:
        for line in await m.compare(tenant, days):
            print(orjson.dumps(line).decode())

    _run(compare if id is None else lambda m: _told(m.move(tenant, name, id, "shadow")))


@models.command()
def rollback(
    name: Name, to: Annotated[str | None, typer.Option(help="version; the one before unless set")] = None,
    tenant: Tenant = "demo",
) -> None:  # fmt: skip
    """Back to what was live before."""
    _run(lambda m: _told(m.rollback(tenant, name, to)))


@models.command()
def retire(name: Name, id: Id, tenant: Tenant = "demo") -> None:
    """It serves no more, also where nothing takes its place."""
    _run(lambda m: _told(m.move(tenant, name, id, "retired")))


async def _told(moved: Awaitable[Version]) -> None:
    v = await moved
    print(f"{v.name} {v.id} is {v.status.value}")
