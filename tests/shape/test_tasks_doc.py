"""docs/tasks.md draws the table of moves as the code has it, and names every field and figure."""

from __future__ import annotations

import re

from ray_app.serving.submissions import FIELDS
from ray_app.tasks.figures import MEASURES
from ray_app.tasks.inspection import FIELDS as STEERED
from ray_app.tasks.task import MOVES
from tests.shape.tree import ROOT

TEXT = (ROOT / "docs" / "tasks.md").read_text()


def test_the_table_of_states_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z]+)` \| [^|]+ \| ([^|]+) \|$", TEXT, re.M)
    drawn = {state: set(re.findall(r"`([A-Z]+)`", moves)) for state, moves in rows}
    assert drawn == {state.value: {to.value for to in moves} for state, moves in MOVES.items()}


def test_every_field_and_figure_is_described() -> None:
    assert not [f for f in (*FIELDS, *STEERED) if f"`{f}`" not in TEXT]
    shown = TEXT.replace("`_", "`lemo_task_")
    assert not [name for name in MEASURES if f"`{name}`" not in shown]
