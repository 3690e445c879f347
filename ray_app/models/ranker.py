"""Rankers by kind: what a version's arrays become, and what may not be served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ray_app.catalog.expression import TASKS
from ray_app.errors import BrokenArtifact
from ray_app.models.base import Arrays, Ranker, Scene
from ray_app.models.blend import Blend
from ray_app.models.listwise import Listwise
from ray_app.models.multitask import MultiTask
from ray_app.models.popularity import Popularity
from ray_app.models.trees import Trees
from ray_app.types import Visitor

Load = Callable[[str, Sequence[str], Arrays], Ranker]
KINDS: Mapping[str, Load] = MappingProxyType(
    {"popularity": Popularity.load, "logistic": MultiTask.load, "trees": Trees.load, "listwise": Listwise.load,
     "multitask": MultiTask.load, "attention": MultiTask.load, "blend": Blend.load}
)  # fmt: skip


def load(version: str, kind: str, names: Sequence[str], wanted: Sequence[str], arrays: Arrays) -> Ranker:
    """Warmed up. `names`: the features that it was trained on; `wanted`: those of the view. Raises BrokenArtifact for
    other features, an unknown kind, arrays of other shapes, and predictions that are no numbers."""
    if tuple(names) != tuple(wanted):
        raise BrokenArtifact(
            f"ranker {version} was trained on features {list(names)}; the view gives {list(wanted)}. Train again",
            version=version,
        )
    if kind not in KINDS:
        raise BrokenArtifact(
            f"ranker {version} is of kind {kind!r}; known: {', '.join(KINDS)}. Train again", version=version
        )
    ranker = KINDS[kind](version, names, arrays)
    check(ranker, len(names))
    return ranker


def check(ranker: Ranker, features: int) -> None:
    """Raises BrokenArtifact when a request without history, or one with an item that nobody knows, has no numbers."""
    none, one = np.zeros(0, np.float32), np.ones(1, np.float32)
    rows = np.array([0, 1 << 30], np.int32)
    stranger = Visitor("", none.astype(np.int32), none, none, none, none.astype(np.int32))
    known = Visitor("u:1", rows[1:], one, one, one, rows[1:])
    for visitor in (stranger, known):
        for value in (0.0, np.nan):
            found = ranker.predict(Scene(np.full((2, features), value, np.float32), rows, visitor))
            if found.shape != (2, len(TASKS)) or not np.isfinite(found).all():
                raise BrokenArtifact(
                    f"ranker {ranker.version} predicts {found.tolist()}; numbers are needed. Train again"
                )
