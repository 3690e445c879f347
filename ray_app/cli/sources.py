"""`lemo source`: where content comes from."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from ray_app.cli.progress import console
from ray_app.cli.world import with_world
from ray_app.errors import InvalidField

if TYPE_CHECKING:
    from ray_app.wiring.stores import World

sources = typer.Typer(no_args_is_help=True, help="Where content comes from.")
Tenant = Annotated[str, typer.Option(help="whose sources")]
Id = Annotated[str, typer.Argument(help="of the source")]


@sources.command("list")
def list_sources(tenant: Tenant = "demo") -> None:
    """Each source, when it was collected last, and what was wrong then."""

    async def work(w: World) -> None:
        from ray_app.content.source import Sources

        table, kept = (
            Table("source", "kind", "url", "type", "collected", "error"),
            Sources(w.documents, w.clock, tenant),
        )
        for s in await kept.list():
            state = await kept.state(s.id)
            at = datetime.fromtimestamp(state.collected_at / 1000, UTC)
            collected = f"{at:%Y-%m-%d %H:%M}" if state.collected_at else "never"
            table.add_row(s.id, s.kind, s.url, s.type, collected if s.enabled else "disabled", state.error)
        console.print(table)

    with_world(work)


@sources.command()
def put(
    id: Id,
    file: Annotated[Path, typer.Argument(exists=True, help='JSON: {"kind", "url", ...}, as PUT /api/v1/sources')],
    tenant: Tenant = "demo",
) -> None:
    """Write a source whole."""

    async def work(w: World) -> None:
        from ray_app.content.source import Sources, parse

        try:
            raw = orjson.loads(file.read_bytes())
        except ValueError as e:
            raise InvalidField("file", file, f"a file of JSON: {e}") from None
        made = parse(id, raw)
        await Sources(w.documents, w.clock, tenant).put(made)
        print(orjson.dumps(asdict(made), option=orjson.OPT_INDENT_2).decode())

    with_world(work)


@sources.command()
def remove(id: Id, tenant: Tenant = "demo") -> None:
    """Take a source away; its documents and items stay."""

    async def work(w: World) -> None:
        from ray_app.content.source import Sources

        await Sources(w.documents, w.clock, tenant).delete(id)

    with_world(work)
