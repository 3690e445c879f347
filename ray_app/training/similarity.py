"""Item-to-item neighbours of every kind, found in parts that survive a kill: what the same visitors took, and what was
taken in one session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_app.models import neighbours
from ray_app.models.base import Arrays
from ray_app.models.covisit import Covisit
from ray_app.models.product import Product, nearest, spans
from ray_app.registry.watch import ITEM_CF, RECALLERS
from ray_app.training import shards
from ray_app.training.kinds import KINDS
from ray_app.training.shards import Part, Run, Spread

if TYPE_CHECKING:
    from ray_app.models.base import Recaller
    from ray_app.stores.blobs import Blobs
    from ray_app.training.history import History
    from ray_app.training.report import Tell

CHANNELS = (ITEM_CF, Covisit.name)
PART = 40_000_000  # multiplications of a part: a second or two of work


@dataclass(frozen=True, slots=True)
class Sharing:
    """`spread` says where parts are made; each has at most `part` multiplications."""

    spread: Spread = shards.here
    part: int = PART


def begin(blobs: Blobs, tenant: str, name: str, variant: str, events: History) -> Run | None:
    """The run of this channel on this history, new or as far as it came; None where it is not made in parts."""
    e = events.events
    found = KINDS[name].product(variant, e, int(e.at[-1]) + 1)
    if found is None:
        return None
    alike, most = found
    k = np.array([neighbours.least(most, alike.n)], np.int64)
    return Run.begin(blobs, f"{tenant}/runs/{name}", {**alike.arrays(), "k": k})


def parts_of(run: Run, sharing: Sharing) -> list[Part]:
    """In which the run is made."""
    return run.parts(spans(Product.load(run.input()).cost(), sharing.part), make_part)


def made(run: Run, name: str, variant: str, tell: Tell, sharing: Sharing) -> Recaller:
    """Parts that are there and whole are not made again."""
    parts = parts_of(run, sharing)
    missing = run.missing(parts)
    tell(f"{len(parts)} parts, {len(parts) - len(missing)} of them done before")
    for done, _ in enumerate(sharing.spread(shards.work, missing), len(parts) - len(missing) + 1):
        tell(f"part {done} of {len(parts)}")
    arrays: dict[str, Any] = {**run.collect(parts), "variant": np.array([variant])}
    return RECALLERS[name].load(arrays)


def make_part(given: Arrays, first: int, last: int) -> Arrays:
    """The neighbours of rows first .. last - 1, of the input that `begin` wrote."""
    found, weights = nearest(Product.load(given), int(given["k"][0]), first, last)
    return {"neighbours": found, "weights": weights}
