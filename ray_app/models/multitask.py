"""The multi-task ranker as it is served, in numpy: click, conversion and watch time of all candidates in one pass.

Features, hashed embeddings of item and visitor, and attention of each candidate over the visitor's recent items (Zhou
et al., "Deep interest network", 2018; scaled dot product) go into one trunk with a head for each task. Conversion is
learned over everything shown, as a share of the clicks (Ma et al., "Entire space multi-task model", 2018); watch time
is the mean of a Poisson model. Embeddings and attention are parts that a version may lack: without both, and without a
hidden layer, it is a logistic model.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_app.catalog.expression import TASKS
from ray_app.models.base import Arrays, Scene
from ray_app.models.calibration import calibrated
from ray_app.types import DAY_S, Matrix, Scores, Visitor

MOST_RECENT = 50  # items of the visitor to which attention is paid, the newest
MOST_LOG_WATCH = 14.0  # of the unit: what one odd request may say of watch time


def item_buckets(rows: NDArray[Any], buckets: int) -> NDArray[np.int64]:
    """1 .. buckets - 1; 0 is the item that nobody knows. Multiplicative hashing (Knuth): the upper bits of the product,
    since its lower ones collide for rows that follow each other."""
    mixed = (rows.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
    return (1 + ((mixed * np.uint64(buckets - 1)) >> np.uint64(32))).astype(np.int64)


def visitor_bucket(name: str, buckets: int) -> int:
    """1 .. buckets - 1; 0 is the visitor whom nobody knows."""
    return 1 + zlib.crc32(name.encode()) % (buckets - 1) if name else 0


class MultiTask:
    """`arrays`: centre, spread [f]; gaps int32 [g]: features that were missing at times; weight0, bias0 ... of the
    trunk; head [trunk + f + g, tasks], head_bias, learned (1 for each learned task), watch_unit (s), calibration,
    convert_calibration; and maybe items [buckets, d], item_known, users, user_known; query, key [d, d], fade, nothing,
    taste [2]. `kind` follows from which of them there are."""

    def __init__(self, version: str, arrays: Arrays) -> None:
        self.version = version
        self._a = {k: np.asarray(v) for k, v in arrays.items()}
        self._trunk = [(self._a[f"weight{k}"], self._a[f"bias{k}"]) for k in range(_layers(arrays))]
        self.attends = "query" in self._a
        self.kind = "attention" if self.attends else "multitask" if "items" in self._a else "logistic"

    @property
    def calibration(self) -> Scores:
        return self._a["calibration"]

    @calibration.setter
    def calibration(self, value: Scores) -> None:
        self._a["calibration"] = value

    def logits(self, scene: Scene) -> Scores:
        """float32 [n], of a click, before calibration."""
        return self._heads(scene)[:, 0]

    def predict(self, scene: Scene) -> Matrix:
        return self.said(self._heads(scene))

    def said(self, raw: Matrix) -> Matrix:
        """What `predict` answers, of the heads' outputs float32 [n, 3]."""
        found = np.zeros((len(raw), len(TASKS)), np.float32)
        found[:, 0] = calibrated(raw[:, 0], self.calibration)
        if self._a["learned"][1]:
            found[:, 1] = calibrated(raw[:, 1], self._a["convert_calibration"])
        if self._a["learned"][2]:
            found[:, 2] = self._a["watch_unit"] * np.exp(np.minimum(raw[:, 2], MOST_LOG_WATCH))
        return found

    def _heads(self, scene: Scene) -> Matrix:
        a = self._a
        wide = self._wide(scene.features)
        x = np.concatenate([wide, *self._taste(scene)], axis=1) if "items" in a else wide
        for weight, bias in self._trunk:
            x = np.maximum(x @ weight + bias, 0.0)
        x = np.concatenate([x, wide], axis=1) if self._trunk else x
        return np.asarray(x @ a["head"] + a["head_bias"], np.float32)

    def _wide(self, features: Matrix) -> Matrix:
        """Standardised features, 0 for what is missing, and for those that were missing at times whether they are."""
        a = self._a
        known = (features - a["centre"]) / a["spread"]
        if not np.isfinite(known.sum()):  # to look costs a tenth of putting zeros in
            known = np.nan_to_num(known, copy=False)
        if not len(a["gaps"]):
            return np.asarray(known, np.float32)
        return np.concatenate([known, np.isnan(features[:, a["gaps"]])], axis=1, dtype=np.float32)

    def _taste(self, scene: Scene) -> list[Matrix]:
        item = self._items(scene.rows)
        user = self._user(scene.visitor.name)
        parts = [item, np.broadcast_to(user, item.shape), user * item]
        return parts + self._attention(item, scene.visitor) if self.attends else parts

    def _attention(self, item: Matrix, visitor: Visitor) -> list[Matrix]:
        """Each candidate's mean of the recent items and of what the visitor thought of them, weighed by kinship, and
        how much kinship there is at all: what is left goes to nothing."""
        a = self._a
        recent = self._items(visitor.recent[:MOST_RECENT])
        taste = (visitor.weights[: len(recent)] - a["taste"][0]) / a["taste"][1]
        age = np.log1p(np.maximum(visitor.ages_s[: len(recent)], 0.0) / DAY_S)
        kin = (item @ a["query"]) @ (recent @ a["key"]).T / np.float32(np.sqrt(item.shape[1]))
        kin = np.exp(np.clip(kin - a["fade"] * age, -30.0, 30.0))
        share = kin / (kin.sum(axis=1, keepdims=True) + np.exp(np.clip(a["nothing"], -30.0, 30.0)))
        pooled = share @ recent
        return [pooled, pooled * item, (share @ taste)[:, None], share.sum(axis=1, keepdims=True)]

    def _items(self, rows: NDArray[Any]) -> Matrix:
        return np.asarray(self._a["items"][self.item_at(rows)])

    def _user(self, name: str) -> Matrix:
        return np.asarray(self._a["users"][self.user_at(name)])

    def item_at(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Where the items' embeddings stand; 0 for those that were not known at the fit."""
        at = item_buckets(rows, len(self._a["items"]))
        return np.where(self._a["item_known"][at], at, 0)

    def user_at(self, name: str) -> int:
        """Where the visitor's embedding stands; 0 for one who was not known at the fit."""
        at = visitor_bucket(name, len(self._a["users"]))
        return at if self._a["user_known"][at] else 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        return dict(self._a)

    @classmethod
    def load(cls, version: str, names: Sequence[str], arrays: Arrays) -> MultiTask:
        return cls(version, arrays)


def _layers(arrays: Arrays) -> int:
    return sum(k.startswith("weight") for k in arrays)
