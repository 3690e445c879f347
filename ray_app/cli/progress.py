"""Progress bars of what takes long."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(highlight=False)


def bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def bar(shown: Progress, name: str) -> Callable[[int, int, int], None]:
    """A bar that is told (rows, rejected, total)."""
    task = shown.add_task(name, total=None)

    def told(rows: int, rejected: int, total: int) -> None:
        what = f"{name}, {rejected:,} refused" if rejected else name
        shown.update(task, completed=rows, total=total, description=what)

    return told
