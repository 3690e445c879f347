"""Examples as the padded arrays that a fit takes: one group is one request with its candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.expression import TASKS
from ray_app.models.base import Scene
from ray_app.models.multitask import MOST_RECENT
from ray_app.types import Mask, Matrix, Rows, Scores


@dataclass(frozen=True, slots=True)
class Groups:
    """features float32 [g, m, f], NaN where missing; rows int32 [g, m]; there bool [g, m]: which places are real;
    labels float32 [g, m, TASKS]: clicked, converted (0 or 1), watch time (s); names of the visitors [g]; recent int32
    [g, r], newest first, -1 beyond the last; weights, ages_s float32 [g, r]."""

    features: NDArray[np.float32]
    rows: Rows
    there: Mask
    labels: NDArray[np.float32]
    names: NDArray[np.str_]
    recent: Rows
    weights: Matrix
    ages_s: Matrix

    def __len__(self) -> int:
        return len(self.features)

    def part(self, keep: NDArray[Any]) -> Groups:
        """`keep`: a mask or places."""
        return Groups(*(getattr(self, f.name)[keep] for f in fields(self)))

    def clicked(self) -> Scores:
        """float32, of every real place."""
        return np.asarray(self.labels[..., 0][self.there], np.float32)


BLANK = {"recent": -1}  # beyond the last; 0 in the other fields


def packed(data: Groups, held: Groups) -> dict[str, NDArray[Any]]:
    """Both as arrays of one length, as wide as the wider, and `held` bool [g]: which are of the second."""
    found: dict[str, NDArray[Any]] = {
        f.name: _below(getattr(data, f.name), getattr(held, f.name), BLANK.get(f.name, 0)) for f in fields(Groups)
    }
    return {**found, "held": np.arange(len(data) + len(held)) >= len(data)}


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> tuple[Groups, Groups]:
    """What `packed` was given."""
    both, held = Groups(*(arrays[f.name] for f in fields(Groups))), arrays["held"]
    return both.part(~held), both.part(held)


def _below(a: NDArray[Any], b: NDArray[Any], blank: int) -> NDArray[Any]:
    if not len(b) or not len(a):
        return a if len(a) else b
    wide = max(a.shape[1:2], b.shape[1:2])
    if not wide:
        return np.concatenate([a, b])
    found = np.full((len(a) + len(b), *wide, *a.shape[2:]), blank, a.dtype)
    found[: len(a), : a.shape[1]], found[len(a) :, : b.shape[1]] = a, b
    return found


def grouped(scenes: Sequence[Scene], labels: Sequence[Matrix]) -> Groups:
    """labels: float32 [n, TASKS] for each scene."""
    g, most = len(scenes), max((len(s.rows) for s in scenes), default=0)
    longest = max((min(len(s.visitor.recent), MOST_RECENT) for s in scenes), default=0)
    wide = scenes[0].features.shape[1] if scenes else 0
    found = Groups(
        np.zeros((g, most, wide), np.float32), np.zeros((g, most), np.int32), np.zeros((g, most), np.bool_),
        np.zeros((g, most, len(TASKS)), np.float32), np.array([s.visitor.name for s in scenes], str),
        np.full((g, longest), -1, np.int32), np.zeros((g, longest), np.float32), np.zeros((g, longest), np.float32),
    )  # fmt: skip
    for k, (scene, label) in enumerate(zip(scenes, labels, strict=True)):
        m, who = len(scene.rows), scene.visitor
        r = min(len(who.recent), MOST_RECENT)
        found.features[k, :m], found.rows[k, :m], found.there[k, :m] = scene.features, scene.rows, True
        found.labels[k, :m] = label
        found.recent[k, :r], found.weights[k, :r], found.ages_s[k, :r] = who.recent[:r], who.weights[:r], who.ages_s[:r]
    return found
