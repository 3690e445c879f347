"""The operator's items at fixed places: of the scenario, and of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ray_app.catalog.pinned import Pinned
from ray_app.catalog.rule import PIN, Rule
from ray_app.catalog.scenario import Scenario
from ray_app.types import Mask, Rows, Scores

Wish = tuple[int, int, int]  # position, how late it is inserted (the later one has the place), row


def pinned_rows(
    scenario: Scenario, rules: Sequence[Rule], allowed: Mask, n: int, pinned: Pinned, best: Scores
) -> dict[int, int]:
    """Position by row of what is allowed and falls into the first n, in the order to insert. `best` float32 [rows] says
    which of the items that a rule is about come first. The scenario's pins have priority 0."""
    pins = [Rule("", PIN, (), position=p.position, title=p.item_id) for p in scenario.pins]
    wanted = [(r, _about(r, allowed, pinned, best)) for r in rules if r.action == PIN]
    wanted += [(r, _named(r.title, allowed, pinned)) for r in pins]
    wanted.sort(key=lambda w: -w[0].priority)  # stable: a rule before a pin of the scenario
    wishes: dict[int, Wish] = {}
    for k, (rule, rows) in enumerate(wanted):
        for step, row in enumerate(rows):
            if row not in wishes and rule.position + step < n:
                wishes[row] = (rule.position + step, -k, row)
    return {row: position for position, _, row in sorted(wishes.values())}


def pin(rows: Rows, pins: Mapping[int, int], n: int) -> Rows:
    """At most n of `rows`, with the pinned rows at their positions."""
    if not pins:
        return rows
    placed = [int(r) for r in rows if int(r) not in pins]
    for row, position in pins.items():
        placed.insert(position, row)
    return np.array(placed[:n], np.int32)


def _about(rule: Rule, allowed: Mask, pinned: Pinned, best: Scores) -> list[int]:
    rows = np.flatnonzero(allowed & pinned.matching(rule.items))
    return [int(r) for r in rows[np.argsort(-best[rows], kind="stable")][: rule.count]]


def _named(item_id: str, allowed: Mask, pinned: Pinned) -> list[int]:
    row = pinned.row_of(item_id)
    return [row] if row is not None and allowed[row] else []
