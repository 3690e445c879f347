"""The popular list of a scenario: as an answer of its own, and in the place of a catalogue that is still loading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ray_app.catalog import sold_out
from ray_app.catalog.changes import Change
from ray_app.catalog.filter import Filter
from ray_app.catalog.lists import MOST, Popular
from ray_app.catalog.rule import HIDE, Rule
from ray_app.catalog.scenario import Scenario
from ray_app.catalog.shelf import Shelf
from ray_app.features.boards import DAYS, Board
from ray_app.features.view import Moment

if TYPE_CHECKING:
    from ray_app.stores.base import Documents


async def part(documents: Documents, tenant: str, made: Popular | None, pins: Sequence[str], now: int) -> Moment:
    """A catalogue of the list and `pins` alone, as hot as the list has them in order; without a list one of the first
    MOST items, none of them hot. Its rows mean nothing elsewhere. Raises Unavailable."""
    if made is None:
        found = {d.id: d for d in await documents.find(tenant, "items", limit=MOST)}
    else:
        found = await documents.get_many(tenant, "items", list(dict.fromkeys((*made.items, *pins))))
    shelf = Shelf()
    shelf.apply([Change(d.id, k, d.version, d.body) for k, d in enumerate(found.values())])
    shelf.apply(await sold_out.among(documents, tenant, list(found)))
    pinned = shelf.pin()
    rows = pinned.rows_of(made.items if made else ())
    hot = np.zeros(pinned.n, np.float32)
    hot[rows] = 1.0 / np.arange(1, len(rows) + 1)
    return Moment(pinned, Board(np.zeros((len(DAYS), pinned.n), np.float32), hot), now)


def eligible(
    made: Popular | None, scenario: Scenario, rules: Sequence[Rule], category: str, moment: Moment
) -> list[str]:
    """Ids of the list, or without one of what is hot, that may be shown now, in order, at most MOST. `category` "": of
    all."""
    pinned = moment.pinned
    filters = (Filter("category", "eq", category),) if category else ()
    allowed = pinned.eligible(filters, tuple(scenario.hidden))
    for rule in rules:
        if rule.action == HIDE:
            allowed &= ~pinned.matching(rule.items)
    order = moment.board.hottest if made is None else pinned.rows_of(made.items)
    return [pinned.ids[r] for r in order[allowed[order]][:MOST].tolist()]
